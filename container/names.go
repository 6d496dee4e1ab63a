package container

import (
	"fmt"
	"math/rand/v2"
	"regexp"
)

// The grammar of names is docker's (moby, daemon/names).
const nameRule = `[a-zA-Z0-9][a-zA-Z0-9_.-]`

var nameSyntax = regexp.MustCompile(`^` + nameRule + `+$`)

// maxName is the most bytes a name has, so that it fits a file name.
const maxName = 200

// CheckName gives ErrName, with a text for users, for a malformed name.
func CheckName(name string) error {
	if len(name) > maxName || !nameSyntax.MatchString(name) {
		return say(ErrName, "Invalid container name (%s), only %s are allowed", name, nameRule)
	}
	return nil
}

// freeName checks that a name is not taken, or finds one if it is empty. The
// caller holds the lock of all containers.
func (s *Store) freeName(name string) (string, error) {
	list, unreadable, err := s.list()
	if unreadable != nil {
		s.log.Error("containers left out", "err", unreadable)
	}
	if err != nil {
		return "", err
	}
	taken := make(map[string]string, len(list))
	for _, c := range list {
		taken[c.Name] = c.ID
	}
	if name != "" {
		if id, ok := taken[name]; ok {
			return "", say(ErrConflict, "Conflict. The container name %q is already in use by container %q. "+
				"You have to remove (or rename) that container to be able to reuse that name.", "/"+name, id)
		}
		return name, nil
	}
	return inventName(func(n string) bool { return taken[n] != "" }), nil
}

// inventName makes a name of two words, and of a number when words do not
// suffice.
func inventName(taken func(string) bool) string {
	for try := 0; ; try++ {
		name := qualities[rand.IntN(len(qualities))] + "_" + things[rand.IntN(len(things))]
		if try >= 10 {
			name = fmt.Sprintf("%s%d", name, rand.IntN(1<<(min(try, 40)-7)))
		}
		if !taken(name) {
			return name
		}
	}
}

// The words of generated names: a quality and something that grows, flies or
// swims.
var (
	qualities = [...]string{
		"amber", "ample", "blithe", "bold", "brisk", "calm", "candid", "chilly", "civil", "coral",
		"crisp", "dapper", "deft", "dewy", "early", "earnest", "easy", "fair", "fleet", "fond",
		"frank", "fresh", "gentle", "glad", "golden", "grand", "green", "handy", "hardy", "hasty",
		"hazel", "honest", "humble", "ivory", "jolly", "keen", "kind", "late", "light", "lively",
		"lofty", "loyal", "lucid", "mellow", "merry", "mild", "misty", "modest", "neat", "nimble",
		"noble", "olive", "patient", "placid", "plain", "polite", "prompt", "proud", "quick", "quiet",
		"rapid", "ready", "rosy", "round", "ruddy", "rural", "rustic", "sandy", "serene", "sharp",
		"shy", "silent", "silver", "simple", "sleek", "slim", "snowy", "sober", "soft", "solid",
		"spry", "stable", "steady", "still", "stout", "sunny", "supple", "sweet", "swift", "tall",
		"tame", "tidy", "topaz", "trim", "true", "vivid", "warm", "wise", "witty", "young",
	}
	things = [...]string{
		"acorn", "alder", "aspen", "aster", "badger", "barley", "beaver", "beech", "birch", "bison",
		"bramble", "briar", "bunting", "carp", "cedar", "cherry", "clover", "condor", "cowslip", "crane",
		"cricket", "curlew", "cypress", "daisy", "dove", "eagle", "egret", "elder", "elm", "falcon",
		"fern", "finch", "fir", "flax", "gannet", "gecko", "goose", "gorse", "grouse", "gull",
		"hare", "hawk", "hawthorn", "heather", "heron", "holly", "hornbeam", "ibex", "ibis", "iris",
		"ivy", "jackdaw", "jay", "juniper", "kestrel", "kite", "lapwing", "larch", "lark", "laurel",
		"lichen", "lilac", "linden", "linnet", "lotus", "lynx", "magpie", "mallow", "maple", "marten",
		"martin", "moss", "myrtle", "newt", "nettle", "oak", "oriole", "osprey", "otter", "owl",
		"perch", "pine", "plover", "poplar", "puffin", "quail", "raven", "reed", "robin", "rook",
		"rowan", "rush", "sage", "salmon", "sedge", "seal", "sorrel", "sparrow", "spruce", "stork",
		"swan", "swift", "tern", "thistle", "thrush", "thyme", "trout", "vole", "willow", "wren",
	}
)
