package cow

import "sync/atomic"

// Stats are figures of a union since [Open], for whoever watches a server.
type Stats struct {
	CopyUps     CopyUps `json:"copyUps"`
	CopiedBytes uint64  `json:"copiedBytes"` // file data brought from the lower into the upper
	Whiteouts   uint64  `json:"whiteouts"`   // lower names hidden
	Redirects   uint64  `json:"redirects"`   // renames of folders that keep showing lower entries
	Nodes       uint64  `json:"nodes"`       // what the table holds now: all that the upper changed
}

// CopyUps counts copy-ups by what they brought along. A file that is copied up
// in steps is counted for each.
type CopyUps struct {
	Metadata uint64 `json:"metadata"` // no data: folders, links and the like, and files for which attributes were enough
	Partial  uint64 `json:"partial"`  // some blocks of a file
	Whole    uint64 `json:"whole"`    // all data of a file
}

// counts is what [FS.Stats] reads.
type counts struct {
	metadata, partial, whole atomic.Uint64
	copied                   atomic.Uint64
	whiteouts, redirects     atomic.Uint64
}

// copyUp counts one of a file with size bytes, or of what has none.
func (c *counts) copyUp(form form, size uint64) {
	switch {
	case form == formPartial:
		c.partial.Add(1)
	case form == formWhole && size > 0:
		c.whole.Add(1)
	default:
		c.metadata.Add(1)
	}
}

// Stats returns the figures. It asks nothing of the filesystem below.
func (f *FS) Stats() Stats {
	c := &f.counts
	return Stats{
		CopyUps:     CopyUps{Metadata: c.metadata.Load(), Partial: c.partial.Load(), Whole: c.whole.Load()},
		CopiedBytes: c.copied.Load(), Whiteouts: c.whiteouts.Load(), Redirects: c.redirects.Load(),
		Nodes: f.table.size(),
	}
}
