// Package failpoint names the instants at which a crash is tried out. A program
// built with the tag failpoints kills itself at the one that the environment
// variable UNIO_FAILPOINT names, so that a test can look at what it leaves
// behind; in every other program the calls are empty.
//
// UNIO_FAILPOINT is NAME or NAME:COUNT: the process ends by SIGKILL when it
// passes NAME for the COUNT-th time, the first if no count is given. With
// UNIO_FAILPOINT_LOG set to a file, the name of each point passed is appended
// to it, a line each. With UNIO_FAILPOINT_FILE set to a file, the process also
// ends at the point whose name that file holds, and removes the file before: so
// only one of several servers that follow each other ends there.
//
// A name says the operation and what of it is done: "copyup.renamed" is passed
// when the copy has just got its name. [Hit] must be called with a literal, so
// that a test finds all names in the source.
package failpoint
