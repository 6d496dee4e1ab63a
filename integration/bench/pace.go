package main

import (
	"context"
	"slices"
	"strings"
	"time"
)

// pace is how a workload is run.
type pace struct {
	rounds int // at most
	least  int // as many for unio and those whom a goal names, whatever the time
	limit  time.Duration
	hasty  bool // neither the disk, the caches nor the memory are settled before: the times mean nothing
}

// cheap is what a run may cost, with getting ready, that is made twice at the
// first time: programs and what they need have been read when it counts.
const cheap = 1200 * time.Millisecond

// dear is what a peer may take of a workload before its rounds end, if they leave
// no doubt: who needs many times as long is told from ours by fewer.
const dear = 4 * time.Second

// plain is how far a peer's rounds are from what a goal allows, all on the same side, when
// more of them would tell nothing.
const plain = 1.5

// course is a workload being run.
type course struct {
	pace
	workload
	named  map[string]bool // contestants that need the least number of rounds
	result *result
	start  time.Time
	spent  map[string]time.Duration // by a contestant, with getting ready
}

// run runs rounds until the time is over.
func (w workload) run(ctx context.Context, p pace) (*result, error) {
	if w.rounds > 0 {
		p.rounds, p.least = min(p.rounds, w.rounds), min(p.least, w.rounds)
	}
	c := &course{workload: w, pace: p, named: w.named(), result: newResult(w), start: time.Now(), spent: map[string]time.Duration{}}
	for round := range p.rounds {
		next := c.next(round)
		if !c.goesOn(round, next) {
			break
		}
		for _, who := range next {
			c.turn(ctx, round, who)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
	}
	c.result.conclude(w.goals)
	for _, l := range c.result.Lines {
		l.Took = c.spent[l.Name].Seconds()
	}
	return c.result, nil
}

// turn runs one contestant once, or twice where a warm-up costs little.
func (c *course) turn(ctx context.Context, round int, who contestant) {
	began := time.Now()
	c.one(ctx, c.result, round, who, c.hasty)
	if round == 0 && !c.hasty && !c.warm && !c.cold && !c.result.missing(who.name) && time.Since(began) <= min(cheap, c.limit/6) {
		c.one(ctx, c.result, round, who, c.hasty) // takes the place of the first
	}
	c.spent[who.name] += time.Since(began)
}

// named are ours and the peers that goals compare us with.
func (w workload) named() map[string]bool {
	list := map[string]bool{}
	for _, who := range w.contestants {
		list[who.name] = ours(who.name) && !strings.Contains(who.name, writebackOpt)
	}
	for _, g := range w.goals {
		list[g.of], list[g.against] = true, true
	}
	return list
}

func ours(name string) bool { return strings.HasPrefix(name+" ", "unio ") }

// next are the contestants of a round. Each round starts with the next one, and every
// second goes backwards, so that each is first, and before and after others. One that takes
// many times as long as the others runs once, unless a goal names it and is not yet decided.
func (c *course) next(round int) []contestant {
	var list []contestant
	n := len(c.contestants)
	for i := range n {
		if round%2 == 1 {
			i = n - i
		}
		who := c.contestants[(round+i)%n]
		needed := round == 0 || round < c.least && c.named[who.name] && (c.spent[who.name] <= dear || c.undecided(who.name))
		if !c.result.missing(who.name) && (needed || c.spent[who.name] <= c.limit/6) {
			list = append(list, who)
		}
	}
	return list
}

// undecided tells whether further rounds of a contestant may decide a goal. Ours are always asked.
func (c *course) undecided(name string) bool {
	if ours(name) {
		return true
	}
	for _, g := range c.goals {
		if v, ok := c.result.judge(g); ok && g.against == name && v.High*plain > g.bound && v.Low < g.bound*plain {
			return true
		}
	}
	return false
}

// goesOn tells whether there is time for a round.
func (c *course) goesOn(round int, next []contestant) bool {
	if round == 0 || len(next) == 0 {
		return round == 0
	}
	if round < c.least {
		return slices.ContainsFunc(next, func(who contestant) bool { return c.named[who.name] })
	}
	var cost time.Duration
	for _, who := range next {
		cost += c.spent[who.name] / time.Duration(round)
	}
	return time.Since(c.start)+cost <= c.limit
}
