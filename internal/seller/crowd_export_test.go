package seller

// EpochLength is that of credentials.
const EpochLength = epochLength

// PaidLane is that of a guest who has paid.
func PaidLane() *Lane {
	l := new(Lane)
	l.l.paid.Store(true)
	return l
}
