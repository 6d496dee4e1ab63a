package dockerfile

// Kind says what an [Event] tells.
type Kind int

// The kinds of events, in the order in which a step may send them.
const (
	StepBegins Kind = iota // Text: the instruction as written
	Triggers               // N instructions of the base image's ONBUILD follow
	Cached                 // the step was found in the cache
	Running                // ID: of the container that runs the step
	Output                 // Text: what it printed, or what a download tells
	Removed                // ID: of the container that is gone again
	StepEnds               // ID: of the image that the stage is now; empty: of no image
	StepFails              // the error comes as the result of the build
	StageSkips             // a stage that nothing needs
	StageEnds
)

// Event is one thing that happens in a build. Those of one stage come in
// order; stages run at the same time.
type Event struct {
	Kind  Kind
	Stage int // from 0, in the order of the Dockerfile
	Name  string
	// Step is the number of the step among the Total ones of the stages that
	// are run, from 1 in the order of the Dockerfile. A trigger has that of FROM.
	Step, Total int
	// StageStep and StageTotal count within the stage.
	StageStep, StageTotal int
	Text                  string
	ID                    string
	N                     int
}
