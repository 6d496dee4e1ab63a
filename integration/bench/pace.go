package main

import (
	"context"
	"slices"
	"time"
)

// pace is how a workload is run.
type pace struct {
	rounds int // at most
	least  int // as many, unless the next round alone takes twice the time there is
	limit  time.Duration
	hasty  bool // neither the disk nor the caches are settled before: the times mean nothing
}

// course is a workload being run.
type course struct {
	pace
	contestants []contestant
	result      *result
	start       time.Time
	spent       map[string]time.Duration // by a contestant, with getting ready
}

// run runs rounds until the time is over. Every second is in the opposite order, so that
// with two each contestant has been before and after every other.
func (w workload) run(ctx context.Context, p pace) (*result, error) {
	if w.rounds > 0 {
		p.rounds = min(p.rounds, w.rounds)
	}
	c := &course{contestants: w.contestants, pace: p, result: newResult(w), start: time.Now(), spent: map[string]time.Duration{}}
	for round := range p.rounds {
		next := c.next(round)
		if !c.goesOn(round, next) {
			break
		}
		for _, who := range next {
			began := time.Now()
			w.one(ctx, c.result, round, who, p.hasty)
			c.spent[who.name] += time.Since(began)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
	}
	c.result.conclude(w.goals)
	return c.result, nil
}

// next are the contestants of a round. One that takes many times as long as the
// others runs once, so that the others run more often.
func (c *course) next(round int) []contestant {
	var list []contestant
	for _, who := range c.contestants {
		if !c.result.missing(who.name) && (round == 0 || c.spent[who.name] <= c.limit/6) {
			list = append(list, who)
		}
	}
	if round%2 == 1 {
		slices.Reverse(list)
	}
	return list
}

// goesOn tells whether there is time for a round.
func (c *course) goesOn(round int, next []contestant) bool {
	if round == 0 {
		return true
	}
	var cost time.Duration
	for _, who := range next {
		cost += c.spent[who.name] / time.Duration(round)
	}
	if round < c.least && cost <= 2*c.limit {
		return len(next) > 1 || len(c.contestants) == 1
	}
	return len(next) > 0 && time.Since(c.start)+cost <= c.limit
}
