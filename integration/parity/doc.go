// Package parity runs the same command lines against docker (the client of
// this machine and a dockerd of its own) and against unio, and compares what
// both print and how they exit, after masking what must differ: IDs, times.
//
// A script is a file testdata/NAME.sh. Each line is a shell command in
// docker's words, run twice: once with docker's client as "docker", once with
// unio under that name. Both sides start empty, in a work folder of their own
// that also holds the fixtures (see [WriteFixtures]). A word in front changes
// what is done with a line:
//
//	COMMAND              both sides must answer alike
//	~NAME[,NAME] COMMAND they differ, as the entry NAME of [Differences] says
//	quiet COMMAND        both sides must succeed, answers are not compared
//	docker: COMMAND      for one side only, must succeed
//	unio: COMMAND        likewise
//	# text               a comment; a trailing \ continues a line
//
// What a script wants to keep between lines it keeps in files. $REGISTRY is
// an empty registry on the loopback, shared by both sides; $SIDE is "docker"
// or "unio", for names that must not meet there. $PRIVATE is a registry that
// wants someone's correct-horse, $INDEX one that can be searched and no more,
// $FILES the address of a web server that has the fixtures.
//
// A difference that cannot or should not go away is an entry with its reason;
// docs/parity.md lists them, and a test holds the two together.
package parity
