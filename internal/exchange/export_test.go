package exchange

import "htlcdash"

// CommitmentOf is what a provider commits to with c, whatever c is.
func CommitmentOf(c Chunk) htlcdash.Root { return c.commit().root() }
