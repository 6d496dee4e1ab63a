package main

// roleVariable names, in the environment, what a copy of this program is to do
// instead of asking.
const roleVariable = "UNIO_POSIX_ROLE"

func play(string) int { return 2 }
