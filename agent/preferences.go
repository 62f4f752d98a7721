package agent

// Preferences are what a viewer wants.
type Preferences struct {
	Weights   Weights
	Thrift    float64
	MinHeight int
	MaxHeight int
}

// allowed are the rungs of a segment that may be bought.
func (p Preferences) allowed(s Segment) (rungs []int) {
	for r, g := range s.Rungs {
		if g.Height == 0 || (g.Height >= p.MinHeight && (p.MaxHeight == 0 || g.Height <= p.MaxHeight)) {
			rungs = append(rungs, r)
		}
	}
	if len(rungs) > 0 {
		return rungs
	}
	for r := range s.Rungs {
		rungs = append(rungs, r)
	}
	return rungs
}
