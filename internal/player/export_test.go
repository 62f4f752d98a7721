package player

// MenuOf makes a menu without a ladder.
var MenuOf = menuOf
