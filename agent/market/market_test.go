package market_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"htlcdash/agent/market"
	"htlcdash/lightning"
)

var start = time.Unix(1_800_000_000, 0)

// A street is a market under test, with a clock.
type street struct {
	*market.Market
	now time.Time
}

func open(c market.Config) *street { return &street{market.New(c, rand.NewPCG(1, 2)), start} }

// pass lets a segment's time go by.
func (s *street) pass() { s.now = s.now.Add(4 * time.Second) }

func (s *street) delivers(id string, took time.Duration, price lightning.Msat, times int) {
	for range times {
		s.see(id, market.Outcome{Kind: market.Delivered, Took: took, Price: price, Ceiling: 300})
		s.pass()
	}
}

func (s *street) see(id string, o market.Outcome) { s.Observe(s.now, id, o) }

// order is whom a ranking names, in order.
func (s *street) order(cands []market.Candidate, need market.Need) (ids []string) {
	for _, c := range s.Rank(s.now, cands, need) {
		ids = append(ids, cands[c.Index].ID)
	}
	return ids
}

// firsts counts who is asked first in a number of choices, without anything
// being observed.
func (s *street) firsts(cands []market.Candidate, need market.Need, times int) map[string]int {
	n := make(map[string]int)
	for range times {
		n[s.order(cands, need)[0]]++
	}
	return n
}

var need = market.Need{Deadline: 2 * time.Second, Ceiling: 300, Worth: 300, Late: 300}

func within(d time.Duration) market.Need {
	n := need
	n.Deadline = d
	return n
}

func cands(ids ...string) (out []market.Candidate) {
	for _, id := range ids {
		out = append(out, market.Candidate{ID: id, Price: 100})
	}
	return out
}

func mostly(t *testing.T, n map[string]int, id string) {
	t.Helper()
	all := 0
	for _, k := range n {
		all += k
	}
	if n[id] < all*4/5 {
		t.Errorf("%s is asked first in %d of %d choices: %v", id, n[id], all, n)
	}
}

func TestDeadlineDecidesBetweenPriceAndTime(t *testing.T) {
	s := open(market.Config{})
	for range 20 {
		s.delivers("quick", 200*time.Millisecond, 150, 1)
		s.delivers("cheap", 3*time.Second, 60, 1)
	}
	all := []market.Candidate{{ID: "quick", Price: 150}, {ID: "cheap", Price: 60}}
	mostly(t, s.firsts(all, within(time.Second), 100), "quick")
	mostly(t, s.firsts(all, within(10*time.Second), 100), "cheap")
}

func TestWhoOftenFailsIsAskedLater(t *testing.T) {
	s := open(market.Config{})
	for range 20 {
		s.delivers("sure", 300*time.Millisecond, 100, 1)
		s.delivers("often silent", 300*time.Millisecond, 90, 1)
		s.see("often silent", market.Outcome{Kind: market.Silent})
		s.pass()
	}
	s.now = s.now.Add(2 * time.Minute) // off the bench
	pressing := market.Need{Deadline: 400 * time.Millisecond, Ceiling: 300, Worth: 300, Late: 1500}
	mostly(t, s.firsts(cands("often silent", "sure"), pressing, 100), "sure")
}

func TestAboveTheCeilingNothingIsAsked(t *testing.T) {
	s := open(market.Config{})
	s.delivers("dear", 100*time.Millisecond, 100, 20)
	got := s.order([]market.Candidate{{ID: "dear", Price: 301, Quoted: true}, {ID: "new", Price: 300}}, need)
	if !slices.Equal(got, []string{"new"}) {
		t.Errorf("asked %v, want only the one within the ceiling", got)
	}
}

func TestBansEnd(t *testing.T) {
	for _, c := range []struct {
		kind      market.Kind
		times     int
		first     time.Duration
		forNobody bool // not even if nobody else is there
	}{
		{market.Silent, 8, 10 * time.Minute, false},
		{market.Refused, 8, 10 * time.Minute, false},
		{market.Garbled, 1, 10 * time.Minute, false},
		{market.Gouged, 1, 10 * time.Minute, false},
		{market.Hung, 1, time.Hour, false},
		{market.Cheated, 1, 30 * 24 * time.Hour, true},
	} {
		t.Run(fmt.Sprint(c.kind), func(t *testing.T) {
			s := open(market.Config{})
			s.delivers("good", 300*time.Millisecond, 100, 3)
			for round := range 3 {
				for range c.times {
					s.see("bad", market.Outcome{Kind: c.kind, Reason: "as seen"})
				}
				v := s.Look(s.now, "bad")
				span := v.Until.Sub(s.now)
				want := c.first << round
				if v.Standing != market.Banned || span > want || span < want*8/10 {
					t.Fatalf("ban %d: %s for %v, want up to %v: an offence counts double the one before", round, v.Standing, span, want)
				}
				if v.Reason != "as seen" {
					t.Errorf("reason %q is not kept", v.Reason)
				}
				if got := s.order(cands("bad", "good"), need); !slices.Equal(got, []string{"good"}) {
					t.Errorf("ban %d: asked %v", round, got)
				}
				if alone := s.order(cands("bad"), need); (len(alone) == 0) != c.forNobody {
					t.Errorf("ban %d: with nobody else there %v is asked", round, alone)
				}
				s.now = v.Until
				if got := s.order(cands("bad", "good"), need); len(got) != 2 {
					t.Errorf("ban %d has ended, and still %v is asked", round, got)
				}
			}
		})
	}
}

func TestTheOnlyOneIsNeverBannedForSlowness(t *testing.T) {
	s := open(market.Config{})
	for range 200 {
		s.see("slow", market.Outcome{Kind: market.Late, Took: 4 * time.Second})
		s.delivers("slow", 6*time.Second, 100, 1)
	}
	if got := s.order(cands("slow"), need); len(got) != 1 {
		t.Errorf("nobody is left to ask")
	}
	if v := s.Look(s.now, "slow"); v.Standing != market.Trusted {
		t.Errorf("it always delivers, and is %s", v.Standing)
	}
}

func TestNewcomersGetAShare(t *testing.T) {
	s := open(market.Config{})
	for _, id := range []string{"a", "b", "c"} {
		s.delivers(id, 300*time.Millisecond, 100, 10)
	}
	all := append(cands("a", "b", "c"), market.Candidate{ID: "new", Price: 1})
	const choices = 1000
	n := 0
	for range choices {
		list := s.Rank(s.now, all, need)
		if c := list[0]; all[c.Index].ID == "new" {
			n++
			if !c.Probation {
				t.Fatal("the newcomer is not said to be on probation")
			}
		}
	}
	// Three newcomers of three were good: it gets more than one in 25, and no
	// more than one in five.
	if n < choices/25 || n > choices/5 {
		t.Errorf("a newcomer gets %d of %d choices", n, choices)
	}
}

func TestANewcomerDoesNotCountAsCheap(t *testing.T) {
	s := open(market.Config{})
	s.delivers("known", 300*time.Millisecond, 200, 20)
	n := s.firsts([]market.Candidate{{ID: "known", Price: 200}, {ID: "new", Price: 1}}, need, 100)
	if n["new"] > 25 {
		t.Errorf("%d of 100 choices for a price that nobody has delivered for", n["new"])
	}
}

func TestFailedNewcomersLowerTheShareOfNewcomers(t *testing.T) {
	s := open(market.Config{})
	for _, id := range []string{"a", "b", "c"} {
		s.delivers(id, 300*time.Millisecond, 100, 10)
	}
	tried := 0
	for i := range 2000 {
		fresh := fmt.Sprintf("sybil-%d", i) // a new key each time
		all := append(cands("a", "b", "c"), market.Candidate{ID: fresh, Price: 10})
		if first := s.order(all, need)[0]; first == fresh {
			tried++
			s.see(fresh, market.Outcome{Kind: market.Silent})
			s.pass()
		} else {
			s.delivers(first, 300*time.Millisecond, 100, 1)
		}
	}
	if tried > 2000*2/100 {
		t.Errorf("a flood of keys got %d of 2000 choices, want less than one in fifty", tried)
	}
}

func TestKeysOfOneGroupShareTheirProbation(t *testing.T) {
	s := open(market.Config{})
	all := []market.Candidate{{ID: "other", Group: "net-2", Price: 100}}
	for i := range 30 {
		id := fmt.Sprintf("many-%d", i)
		all = append(all, market.Candidate{ID: id, Group: "net-1", Price: 100})
	}
	for i := range 12 {
		s.see(fmt.Sprintf("many-%d", i), market.Outcome{Kind: market.Silent, Group: "net-1"})
	}
	if n := s.firsts(all, need, 300); n["other"] < 180 {
		t.Errorf("%d of 300 choices for a group of which nothing bad is known: %v", n["other"], n)
	}
	for range 50 {
		if got := s.order(all, need); !slices.Contains(got[:2], "other") {
			t.Fatalf("one key in %d of its group is asked before another group", len(got))
		}
	}
}

func TestAProbationIsBroughtToItsEnd(t *testing.T) {
	s := open(market.Config{})
	s.delivers("begun", 300*time.Millisecond, 100, 1)
	all := append(cands("new-1", "new-2", "new-3", "new-4"), cands("begun")...)
	if n := s.firsts(all, need, 100); n["begun"] != 100 {
		t.Errorf("others begin before the first has shown what it is: %v", n)
	}
}

func TestNewcomersAreAskedWhenThoseWhoAreKnownAreBad(t *testing.T) {
	s := open(market.Config{})
	s.delivers("slow", 5*time.Second, 250, 30)
	for _, id := range []string{"a", "b"} { // so that newcomers are not thought to be as slow
		s.delivers(id, 200*time.Millisecond, 250, 3)
	}
	n := s.firsts([]market.Candidate{{ID: "slow", Price: 250}, {ID: "new", Price: 250}}, need, 100)
	if n["new"] < 50 {
		t.Errorf("a newcomer gets %d of 100 choices, though the only other one is always late", n["new"])
	}
}

func TestWhoWasNotSeenForLongIsTriedAgain(t *testing.T) {
	s := open(market.Config{})
	for _, id := range []string{"good", "bad"} {
		s.delivers(id, 300*time.Millisecond, 100, 5)
	}
	for range 5 { // too slow to be chosen
		s.delivers("bad", 5*time.Second, 100, 1)
	}
	tried := 0
	for range 2000 {
		first := s.order(cands("good", "bad"), need)[0]
		if first == "bad" {
			tried++
		}
		s.delivers(first, map[string]time.Duration{"good": 300 * time.Millisecond, "bad": 5 * time.Second}[first], 100, 1)
	}
	if tried < 5 || tried > 100 {
		t.Errorf("asked in %d of 2000 choices, want now and then", tried)
	}
}

func TestNearEqualsDoNotTakeTurns(t *testing.T) {
	s := open(market.Config{})
	r := rand.New(rand.NewPCG(3, 4))
	all := []market.Candidate{{ID: "a", Price: 100}, {ID: "b", Price: 101}}
	for _, c := range all {
		s.delivers(c.ID, 300*time.Millisecond, c.Price, 20)
	}
	changes, last := 0, ""
	const choices = 2000
	for range choices {
		first := s.order(all, within(400*time.Millisecond))[0]
		if last != "" && first != last {
			changes++
		}
		last = first
		s.delivers(first, time.Duration(300*math.Exp(0.3*r.NormFloat64()))*time.Millisecond, 100, 1)
	}
	if changes > choices*2/100 {
		t.Errorf("%d changes in %d choices between two that are as good as the same", changes, choices)
	}
}

func TestATurncoatIsLeftAtOnce(t *testing.T) {
	for name, turns := range map[string]market.Outcome{
		"silent": {Kind: market.Silent, Took: 4 * time.Second},
		"slow":   {Kind: market.Delivered, Took: 4 * time.Second, Price: 70, Ceiling: 300},
		"late":   {Kind: market.Late, Took: 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(market.Config{})
			s.delivers("other", 500*time.Millisecond, 100, 20)
			s.delivers("turncoat", 300*time.Millisecond, 70, 500)
			all := []market.Candidate{{ID: "turncoat", Price: 70}, {ID: "other", Price: 100}}
			if got := s.order(all, need)[0]; got != "turncoat" {
				t.Fatalf("%s is asked first, want the better one", got)
			}
			for range 3 {
				s.see("turncoat", turns)
				s.pass()
			}
			s.now = s.now.Add(30 * time.Second) // off the bench
			mostly(t, s.firsts(all, need, 50), "other")
		})
	}
}

func TestWhoHasBecomeGoodIsTakenBack(t *testing.T) {
	s := open(market.Config{})
	for range 50 {
		s.delivers("other", 500*time.Millisecond, 150, 1)
		s.delivers("penitent", 4*time.Second, 70, 1)
	}
	all := []market.Candidate{{ID: "penitent", Price: 70}, {ID: "other", Price: 150}}
	mostly(t, s.firsts(all, need, 50), "other")
	s.delivers("penitent", 300*time.Millisecond, 70, 4)
	mostly(t, s.firsts(all, need, 50), "penitent")
}

func TestWhatWasAskedCountsMoreThanWhatIsAdvertised(t *testing.T) {
	s := open(market.Config{})
	for range 10 {
		s.delivers("honest", 300*time.Millisecond, 100, 1)
		s.delivers("liar", 300*time.Millisecond, 250, 1)
	}
	all := []market.Candidate{{ID: "liar", Price: 20}, {ID: "honest", Price: 100}}
	mostly(t, s.firsts(all, need, 100), "honest")
	all[0].Quoted = true // signed: it will not ask for more this time
	mostly(t, s.firsts(all, need, 100), "liar")
}

func TestAPriceIsLearntAsAShareOfTheCeiling(t *testing.T) {
	s := open(market.Config{})
	for range 10 {
		s.delivers("cheap", 300*time.Millisecond, 60, 1) // of 300
		s.delivers("dear", 300*time.Millisecond, 240, 1)
	}
	large := market.Need{Deadline: 2 * time.Second, Ceiling: 3000}
	all := []market.Candidate{{ID: "dear"}, {ID: "cheap"}} // no price is known of this segment
	mostly(t, s.firsts(all, large, 100), "cheap")
	large.Ceiling = 0
	mostly(t, s.firsts(all, large, 100), "cheap")
	large.Ceiling = 3000 // of which cheap will ask 600
	mostly(t, s.firsts([]market.Candidate{{ID: "dear", Price: 300, Quoted: true}, {ID: "cheap"}}, large, 100), "dear")
}

func TestGougers(t *testing.T) {
	s := open(market.Config{})
	rich := market.Need{Deadline: 2 * time.Second, Ceiling: 1000, Worth: 3000, Late: 3000}
	for _, id := range []string{"a", "b", "c"} {
		s.delivers(id, 900*time.Millisecond, 100, 10)
	}
	s.delivers("gouger", 100*time.Millisecond, 100, 10)
	all := append(cands("a", "b", "c"), market.Candidate{ID: "gouger", Price: 301})
	for i := range all {
		all[i].Quoted = true
	}
	for range 50 {
		if got := s.order(all, rich); slices.Contains(got, "gouger") {
			t.Fatal("three times the median is asked, and it is not left out")
		}
	}
	if got := s.order(all[3:], rich); len(got) != 1 {
		t.Error("there is nobody else, and it is left out")
	}
	urgent := rich
	urgent.Deadline, urgent.Late = 200*time.Millisecond, 30000
	if got := s.order(all, urgent); !slices.Contains(got, "gouger") {
		t.Error("none of the others is in time, and it is left out")
	}
}

// A rise over the usual price counts twice, so that it does not pay to be cheap
// first: one that was always as dear keeps its customers, one that lured them
// loses them.
func TestARiseCountsTwice(t *testing.T) {
	for name, c := range map[string]struct {
		before lightning.Msat
		want   string
	}{
		"always dear": {before: 180, want: "quick"},
		"cheap first": {before: 60, want: "other"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(market.Config{})
			for range 20 {
				s.delivers("quick", 300*time.Millisecond, c.before, 1)
				s.delivers("other", 1430*time.Millisecond, 100, 1)
			}
			all := []market.Candidate{{ID: "quick", Price: 180, Quoted: true}, {ID: "other", Price: 100, Quoted: true}}
			if n := s.firsts(all, within(time.Second), 500); n[c.want] < 300 {
				t.Errorf("%s is asked first in %d of 500 choices", c.want, n[c.want])
			}
		})
	}
}

func TestHedge(t *testing.T) {
	s := open(market.Config{})
	r := rand.New(rand.NewPCG(5, 6))
	for range 60 {
		took := time.Duration(400*math.Exp(0.3*r.NormFloat64())) * time.Millisecond
		s.delivers("sure", took, 100, 1)
		s.delivers("second", took, 100, 1)
		s.delivers("often silent", took, 100, 1)
		if r.IntN(3) == 0 {
			s.see("often silent", market.Outcome{Kind: market.Silent, Took: 4 * time.Second})
		}
	}
	of := func(id string) market.Candidate { return market.Candidate{ID: id, Price: 100} }
	after := func(id string, deadline time.Duration) time.Duration {
		return s.HedgeAfter(s.now, of(id), of("second"), within(deadline))
	}
	median := s.Look(s.now, "sure").Latency
	for _, d := range []time.Duration{-time.Second, 0, time.Second, 2 * time.Second, time.Minute} {
		if got := after("sure", d); got < median*99/100 {
			t.Errorf("deadline %v: after %v, before half of the answers are in (%v)", d, got, median)
		}
	}
	if near, far := after("sure", 1500*time.Millisecond), after("sure", 20*time.Second); near >= far {
		t.Errorf("after %v with the deadline near, %v with it far", near, far)
	}
	if near := after("often silent", 1500*time.Millisecond); near > 1100*time.Millisecond {
		t.Errorf("after %v of 1.5 s, with a second that takes 0.4 s", near)
	}
	if bad, good := after("often silent", 1500*time.Millisecond), after("sure", 1500*time.Millisecond); bad > good {
		t.Errorf("after %v for one that is often silent, %v for one that is not", bad, good)
	}
	if got := s.HedgeAfter(s.now, of("sure"), market.Candidate{}, need); got != need.Deadline {
		t.Errorf("after %v, without anybody to ask", got)
	}
}

func TestNotWaitedForIsNotFailed(t *testing.T) {
	s := open(market.Config{})
	s.delivers("a", 500*time.Millisecond, 100, 20)
	before := s.Look(s.now, "a")
	for range 20 {
		s.see("a", market.Outcome{Kind: market.Late, Took: 50 * time.Millisecond})
	}
	if v := s.Look(s.now, "a"); v.Success < before.Success-0.02 || v.Latency > before.Latency*11/10 {
		t.Errorf("%+v, was %+v: that it was not there after 50 ms says nothing", v, before)
	}
	for range 5 {
		s.see("a", market.Outcome{Kind: market.Late, Took: 3 * time.Second})
	}
	if v := s.Look(s.now, "a"); v.Latency < before.Latency*12/10 && v.Success > 0.9 {
		t.Errorf("%+v, was %+v: that it was not there after 3 s says much", v, before)
	}
}

func TestTimeGrowsWithSize(t *testing.T) {
	s := open(market.Config{})
	for i := range 200 { // a second for each megabyte
		size := int64(1<<18) << (i % 4)
		took := time.Duration(size) * time.Second >> 20
		s.see("line", market.Outcome{Kind: market.Delivered, Took: took, Price: 60, Ceiling: 300, Size: size})
		s.see("trips", market.Outcome{Kind: market.Delivered, Took: took + time.Second/4, Price: 100, Ceiling: 300, Size: size})
		s.pass()
	}
	hedge := func(size int64) time.Duration {
		n := within(0)
		n.Size = size
		return s.HedgeAfter(s.now, market.Candidate{ID: "line", Price: 60}, market.Candidate{ID: "trips", Price: 100}, n)
	}
	if small, large := hedge(1<<18), hedge(1<<21); large < 4*small {
		t.Errorf("waits %v for a quarter of a megabyte, %v for two", small, large)
	}
}

func TestAskAgain(t *testing.T) {
	s := open(market.Config{})
	all := cands("a", "b", "c", "d", "e")
	for _, id := range []string{"e", "d", "c", "b", "a"} {
		s.delivers(id, 300*time.Millisecond, 100, 10)
	}
	s.now = s.now.Add(time.Hour)
	who, next := s.AskAgain(s.now, all)
	if len(who) != 3 {
		t.Fatalf("asks %d at once, want three", len(who))
	}
	if again, n := s.AskAgain(s.now, all); again != nil || !n.Equal(next) {
		t.Errorf("asks %v again at once", again)
	}
	gap := next.Sub(s.now)
	for range 6 {
		s.now = next
		_, next = s.AskAgain(s.now, all)
	}
	if got := next.Sub(s.now); got < 4*gap || got > 16*time.Minute {
		t.Errorf("asks every %v at first, and every %v when nothing changes", gap, got)
	}
	s.delivers("a", 300*time.Millisecond, 100, 1)
	if who, _ := s.AskAgain(s.now, all); who != nil {
		t.Fatal("asks though all is well")
	}
	s.see("a", market.Outcome{Kind: market.Silent})
	if who, _ := s.AskAgain(s.now, all); len(who) == 0 {
		t.Error("who served is silent, and nobody is asked")
	}
}

func TestAskAgainLeavesOutWhoHasJustSaidAPrice(t *testing.T) {
	s := open(market.Config{})
	for _, id := range []string{"a", "b", "c"} {
		s.delivers(id, 300*time.Millisecond, 100, 5)
	}
	s.now = s.now.Add(time.Hour)
	s.see("b", market.Outcome{Kind: market.Quoted, Price: 90, Ceiling: 300})
	who, _ := s.AskAgain(s.now, cands("a", "b", "c"))
	if slices.Contains(who, 1) || len(who) != 2 {
		t.Errorf("asks %v, want the first and the third", who)
	}
	if v := s.Look(s.now, "b"); v.Price != 90 {
		t.Errorf("price %v, want what it said", v.Price)
	}
}

func TestReputationSurvivesARestart(t *testing.T) {
	s := open(market.Config{})
	for range 20 {
		s.delivers("good", 300*time.Millisecond, 100, 1)
		s.delivers("slow", 5*time.Second, 100, 1)
	}
	s.see("thief", market.Outcome{Kind: market.Cheated, Reason: "the key does not open"})
	b, err := json.Marshal(s.Records())
	if err != nil {
		t.Fatal(err)
	}
	var records []market.Record
	if err := json.Unmarshal(b, &records); err != nil {
		t.Fatal(err)
	}
	again := open(market.Config{})
	again.now = s.now.Add(24 * time.Hour)
	if err := again.Restore(again.now, records); err != nil {
		t.Fatal(err)
	}
	all := cands("thief", "slow", "good")
	mostly(t, again.firsts(all, need, 50), "good")
	if got := again.order(all, need); slices.Contains(got, "thief") {
		t.Error("a ban does not survive")
	}
	for _, id := range []string{"good", "slow", "thief"} {
		was, is := s.Look(s.now, id), again.Look(again.now, id)
		if was.Standing != is.Standing || was.Reason != is.Reason || !was.Until.Equal(is.Until) {
			t.Errorf("%s: %+v, was %+v", id, is, was)
		}
	}
	again.now = s.now.Add(365 * 24 * time.Hour)
	for _, id := range []string{"good", "thief"} {
		if v := again.Look(again.now, id); v.Standing != market.Probation {
			t.Errorf("%s is %s after a year", id, v.Standing)
		}
	}
}

func TestRestoreLeavesOutWhatMakesNoSense(t *testing.T) {
	good := market.Record{ID: "good", Seen: start, Past: market.Evidence{Yes: 3, N: 3}}
	for name, bad := range map[string]func(*market.Record){
		"no name":        func(r *market.Record) { r.ID = "" },
		"long name":      func(r *market.Record) { r.ID = strings.Repeat("x", market.MaxID+1) },
		"no number":      func(r *market.Record) { r.Past.Mean = math.NaN() },
		"negative":       func(r *market.Record) { r.Recent.No = -1 },
		"endless":        func(r *market.Record) { r.Past.Yes = math.Inf(1) },
		"negative price": func(r *market.Record) { r.Price = -1 },
		"usual":          func(r *market.Record) { r.Usual = math.NaN() },
		"offences":       func(r *market.Record) { r.Offences = math.Inf(1) },
	} {
		t.Run(name, func(t *testing.T) {
			r := good
			bad(&r)
			s := open(market.Config{})
			if err := s.Restore(start, []market.Record{r, good}); !errors.Is(err, market.ErrRecord) {
				t.Errorf("error %v, want ErrRecord", err)
			}
			if got := s.Records(); len(got) > 1 || len(got) == 1 && got[0].Past != good.Past {
				t.Errorf("kept %v, want only the good one", got)
			}
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	s := open(market.Config{Keep: 100})
	s.delivers("good", 300*time.Millisecond, 100, 5)
	s.see("thief", market.Outcome{Kind: market.Cheated})
	for i := range 5000 {
		s.see(fmt.Sprintf("flood-%d", i), market.Outcome{Kind: market.Silent, Group: fmt.Sprintf("net-%d", i)})
		s.pass()
	}
	if n := len(s.Records()); n > 100 {
		t.Errorf("%d records, want 100", n)
	}
	for _, id := range []string{"good", "thief"} {
		if _, ok := s.Record(id); !ok {
			t.Errorf("%s is forgotten over keys that never did anything", id)
		}
	}
	many := s.Records()
	for i := range 500 {
		many = append(many, market.Record{ID: fmt.Sprintf("more-%d", i), Seen: start})
	}
	small := open(market.Config{Keep: 50})
	if err := small.Restore(s.now, many); err != nil {
		t.Fatal(err)
	}
	if _, ok := small.Record("good"); len(small.Records()) > 50 || !ok {
		t.Errorf("%d records restored, want 50, the good one among them", len(small.Records()))
	}
}

func TestNewcomersAreRarerWhereNobodyCouldHelp(t *testing.T) {
	share := func(deadline time.Duration) int {
		s := open(market.Config{})
		for _, id := range []string{"a", "b", "c"} {
			s.delivers(id, 300*time.Millisecond, 100, 10)
		}
		return s.firsts(cands("a", "b", "c", "new"), within(deadline), 2000)["new"]
	}
	if far, near := share(2*time.Second), share(400*time.Millisecond); near == 0 || near > far*2/3 {
		t.Errorf("newcomers get %d of 2000 choices with time for a second, %d without", far, near)
	}
}

func TestAMarketWithoutSparesTriesMore(t *testing.T) {
	share := func(trusted ...string) int {
		s := open(market.Config{})
		for _, id := range trusted {
			s.delivers(id, 300*time.Millisecond, 100, 10)
		}
		for range 3 { // so that newcomers are not thought to be all good
			s.see("bad", market.Outcome{Kind: market.Silent})
		}
		return s.firsts(cands(append(trusted, "new")...), need, 1000)["new"]
	}
	if few, enough := share("a"), share("a", "b", "c"); few < 3*enough/2 {
		t.Errorf("newcomers get %d of 1000 choices beside one, %d beside three", few, enough)
	}
}

func TestWhoHasJustFailedIsAskedLast(t *testing.T) {
	s := open(market.Config{})
	s.delivers("best", 300*time.Millisecond, 60, 50)
	s.delivers("other", 900*time.Millisecond, 150, 50)
	all := []market.Candidate{{ID: "best", Price: 60}, {ID: "other", Price: 150}}
	s.see("best", market.Outcome{Kind: market.Silent})
	if got := s.order(all, need)[0]; got != "other" {
		t.Errorf("%s is asked at once, though it has just failed", got)
	}
	s.now = s.now.Add(2 * time.Second)
	mostly(t, s.firsts(all, need, 100), "best")
}

// That it is now and then silent does less harm where another can be asked.
func TestHelpIsCounted(t *testing.T) {
	s := open(market.Config{})
	for i := range 100 {
		s.delivers("sure", 300*time.Millisecond, 160, 1)
		if i%8 == 0 {
			s.see("cheap", market.Outcome{Kind: market.Silent})
			s.pass()
		} else {
			s.delivers("cheap", 300*time.Millisecond, 100, 1)
		}
	}
	all := []market.Candidate{{ID: "sure", Price: 160}, {ID: "cheap", Price: 100}}
	mostly(t, s.firsts(all, need, 100), "cheap")
}

// A newcomer is tried with one segment rather than with sixteen.
func TestSegmentsAtOnceCountAsMany(t *testing.T) {
	s := open(market.Config{})
	for _, id := range []string{"a", "b", "c"} {
		s.delivers(id, 300*time.Millisecond, 100, 10)
	}
	batch := need
	batch.Segments = 16
	ones, sixteens := 0, 0
	for range 1000 {
		ones += s.firsts(cands("a", "b", "c", "new"), need, 1)["new"]
		sixteens += s.firsts(cands("a", "b", "c", "new"), batch, 1)["new"]
	}
	if ones < 10*sixteens || ones == 0 {
		t.Errorf("newcomers are tried with one segment %d times, with sixteen %d times", ones, sixteens)
	}
}

func TestClockThatGoesBack(t *testing.T) {
	s := open(market.Config{})
	s.delivers("a", 300*time.Millisecond, 100, 10)
	s.now = start.Add(-24 * time.Hour)
	s.delivers("a", 300*time.Millisecond, 100, 10)
	if v := s.Look(s.now, "a"); v.Standing != market.Trusted || math.IsNaN(v.Success) {
		t.Errorf("%+v", v)
	}
}

// FuzzRestore reads records as the ledger keeps them, and uses them.
func FuzzRestore(f *testing.F) {
	s := open(market.Config{})
	s.delivers("a", 300*time.Millisecond, 100, 3)
	s.see("b", market.Outcome{Kind: market.Cheated, Reason: "x"})
	seed, _ := json.Marshal(s.Records())
	f.Add(seed)
	f.Add([]byte(`[{"id":"a","past":{"yes":1e4,"no":0,"n":1e-9,"mean":-20,"square":1e5},"usual":9e18,"ceiling":1,"price":1}]`))
	f.Add([]byte(`[{"id":"a","past":{"no":1e4},"recent":{"n":1e4},"offences":9000,"failures":2147483647}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var records []market.Record
		if json.Unmarshal(b, &records) != nil {
			return
		}
		m := open(market.Config{Keep: 8})
		_ = m.Restore(start, records)
		kept := m.Records()
		if len(kept) > 8 {
			t.Fatalf("%d records kept", len(kept))
		}
		var all []market.Candidate
		for _, r := range kept {
			all = append(all, market.Candidate{ID: r.ID, Group: r.Group})
		}
		for _, c := range m.Rank(start, all, need) {
			if c.Index < 0 || c.Index >= len(all) {
				t.Fatalf("choice %d of %d", c.Index, len(all))
			}
		}
		for i, r := range kept {
			for k := market.Delivered; k <= market.Cheated; k++ {
				m.Observe(start.Add(time.Duration(i)*time.Hour), r.ID, market.Outcome{Kind: k, Took: time.Second, Price: 5, Ceiling: 7, Size: 1 << 20})
			}
			v := m.Look(start, r.ID)
			if math.IsNaN(v.Success) || v.Success < 0 || v.Success > 1 || v.Latency < 0 {
				t.Fatalf("%+v of %+v", v, r)
			}
			if got, ok := m.Record(r.ID); !ok || got.Check() != nil {
				t.Fatalf("%+v became %+v: %v", r, got, got.Check())
			}
			if h := m.HedgeAfter(start, all[i], market.Candidate{ID: "x"}, need); h < 0 {
				t.Fatalf("hedge after %v", h)
			}
		}
	})
}

func crowded(n int) (*street, []market.Candidate) {
	s := open(market.Config{})
	var all []market.Candidate
	for i := range n {
		c := market.Candidate{ID: fmt.Sprintf("provider-%d", i), Group: fmt.Sprintf("net-%d", i%10), Price: lightning.Msat(100 + i)}
		all = append(all, c)
		if i%2 == 0 {
			s.delivers(c.ID, time.Duration(200+10*i)*time.Millisecond, c.Price, 3)
		}
	}
	return s, all
}

func BenchmarkRank(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, all := crowded(n)
			b.ReportAllocs()
			for b.Loop() {
				s.Rank(s.now, all, need)
			}
		})
	}
}

func BenchmarkObserve(b *testing.B) {
	s, all := crowded(100)
	for i := 0; b.Loop(); i++ {
		s.see(all[i%100].ID, market.Outcome{Kind: market.Delivered, Took: time.Second, Price: 100, Ceiling: 300, Size: 1 << 20})
	}
}

func BenchmarkHedgeAfter(b *testing.B) {
	s, all := crowded(100)
	for b.Loop() {
		s.HedgeAfter(s.now, all[0], all[2], need)
	}
}
