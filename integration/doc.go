// Package integration holds the end-to-end tests: they drive the built binary
// as separate processes, on real mounts, beside Debian's container tools, and
// look at what a user would see. The programs under test and their helpers
// live elsewhere; nothing imports this package.
package integration
