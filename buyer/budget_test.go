package buyer_test

import (
	"testing"
	"testing/synctest"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/lightning"
)

// In no 24 hours is more spent than the limit for a day, before and after a
// restart, and no later than an hour after that it is free again.
func TestDayRolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := htlcdash.TitleID{1}
		limits := buyer.Limits{Segment: buyer.NoLimit, Title: buyer.NoLimit, Day: 100}
		time.Sleep(17 * time.Minute)
		begun := time.Now()
		till := buyer.NewTill(limits, map[time.Time]lightning.Msat{
			begun.Add(-26 * time.Hour): 1000, // long past
			begun.Add(-2 * time.Hour):  30,   // of an earlier run
		}, id)
		must(t, till.Spend(id, 70))
		wantErr(t, till.Spend(id, 1), buyer.ErrBudget)
		if left, limited := till.Account(id).Left(); left != 0 || !limited {
			t.Errorf("left %v, limited %v", left, limited)
		}
		time.Sleep(24*time.Hour - time.Minute)
		wantErr(t, till.Spend(id, 31), buyer.ErrBudget)
		must(t, till.Spend(id, 30)) // what the earlier run spent is a day ago
		time.Sleep(time.Hour + time.Minute)
		must(t, till.Spend(id, 70))
		wantErr(t, till.Spend(id, 1), buyer.ErrBudget)
	})
}

func TestLeft(t *testing.T) {
	for _, c := range []struct {
		name    string
		account buyer.Account
		left    lightning.Msat
		limited bool
	}{
		{"no limit", buyer.Account{Budget: buyer.NoLimit, DayLeft: buyer.NoLimit}, buyer.NoLimit, false},
		{"zero allows nothing", buyer.Account{}, 0, true},
		{"title binds", buyer.Account{Budget: 100, Spent: 30, Reserved: 20, DayLeft: 70}, 50, true},
		{"day binds", buyer.Account{Budget: 100, DayLeft: 7}, 7, true},
		{"lowered below what was spent", buyer.Account{Budget: 10, Spent: 30, DayLeft: buyer.NoLimit}, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if left, limited := c.account.Left(); left != c.left || limited != c.limited {
				t.Errorf("left %v, limited %v, want %v, %v", left, limited, c.left, c.limited)
			}
		})
	}
}
