package trial

// Unplayed is for tests of the arithmetic.
var Unplayed = unplayed
