package seller

// EpochLength is that of credentials.
const EpochLength = epochLength

// PaidLane is that of a guest who has paid.
func PaidLane() *Lane {
	l := new(Lane)
	l.l.paid.Store(true)
	return l
}

// KeptLanes returns lanes with n workers, some of them kept for who has paid.
func KeptLanes(n, kept int) Lanes { return Lanes{&lanes{free: n, kept: kept}} }
