package imagestore

// Event is one step of long work.
type Event struct {
	ID      string // what is worked on: a layer's short ID, or a name
	Action  string // in docker's words: "Loading layer", "Downloading", …
	Current int64  // bytes done
	Total   int64  // bytes in all, 0 when unknown
}

// Progress is told how long work goes on. Update must be safe for use by
// several goroutines at once and must not block for long. Where a Progress is
// asked for, nil means silence.
type Progress interface {
	Update(Event)
}
