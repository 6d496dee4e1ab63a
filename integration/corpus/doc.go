// Package corpus builds Dockerfiles with unio and with others (docker's classic
// builder, BuildKit in dockerd, buildah) and compares what came out: the layers
// (which files, of what type, mode, owner and content, which whiteouts) and the
// config. It has tests only.
//
// A case is a file testdata/NAME.txtar: the build context, Dockerfile included,
// with lines in front of it that say how it is built:
//
//	args: WORDS               further arguments of build
//	prepare: COMMAND          run by a shell in the context first, for links and modes
//	only: ENGINE…             the builders that know all of its instructions
//	differs: ENGINE PART why  PART (layers, tree, config; several with commas) differs, for this reason
//	fails                     the build fails; what the last line of stderr says is compared
//
// Anything else in front is a comment. The images bb:1 (busybox with users) and
// onbuild:1 (bb:1 with triggers) are there for all.
package corpus
