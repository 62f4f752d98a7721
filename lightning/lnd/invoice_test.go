package lnd_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"htlcdash/lightning"
)

// settled is an invoice as lnd lists it.
func settled(s sale, index int) map[string]any {
	return map[string]any{
		"state": "SETTLED", "settle_index": fmt.Sprint(index), "settle_date": "1800000000", "add_index": "1",
		"r_hash": base64.StdEncoding.EncodeToString(s.Hash[:]), "r_preimage": "", "payment_request": s.Bolt11,
		"value_msat": fmt.Sprint(int64(s.Amount)), "amt_paid_msat": fmt.Sprint(int64(s.Amount)),
	}
}

func open(s sale) map[string]any {
	m := settled(s, 0)
	m["state"], m["settle_date"] = "OPEN", "0"
	return m
}

var errEnough = errors.New("enough")

// TestReceiptsFromTheFirst is about lnd's quirk that a subscription from index
// 0 tells nothing of the past.
func TestReceiptsFromTheFirst(t *testing.T) {
	sales := []sale{newSale(t, 1), newSale(t, 2), newSale(t, 3), newSale(t, 4)}
	for _, test := range []struct {
		name  string
		early int // how many were settled before
	}{{"none yet", 0}, {"some", 3}} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			var lists atomic.Int32
			f.on("GET /v1/invoices", func(w http.ResponseWriter, r *http.Request) {
				list := []any{open(newSale(t, 9))}
				n := test.early
				if lists.Add(1) > 1 {
					n = max(n, 1)
				}
				for i := n; i > 0; i-- { // not in order of settlement
					list = append(list, settled(sales[i-1], i))
				}
				_ = json.NewEncoder(w).Encode(map[string]any{"invoices": list, "last_index_offset": "5"})
			})
			f.on("GET /v1/invoices/subscribe", func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Query().Get("settle_index") {
				case "0":
					if test.early == 0 {
						line(w, settled(sales[0], 1))
					}
				case "1":
					line(w, settled(sales[1], 2))
					line(w, open(newSale(t, 9)))
					line(w, settled(sales[1], 2)) // sent again
					line(w, settled(sales[2], 3))
					line(w, settled(sales[3], 4))
				case "3":
					line(w, settled(sales[3], 4))
				}
				<-r.Context().Done()
			})
			var got []lightning.Receipt
			err := f.node(t).Receipts(soon(t), 0, func(r lightning.Receipt) error {
				if got = append(got, r); len(got) == len(sales) {
					return errEnough
				}
				return nil
			})
			if !errors.Is(err, errEnough) {
				t.Fatal(err)
			}
			for i, r := range got {
				if r.Index != uint64(i+1) || r.Hash != sales[i].Hash || r.Amount != sales[i].Amount || r.At.Unix() != 1_800_000_000 {
					t.Errorf("receipt %d is %+v", i, r)
				}
			}
		})
	}
}

func TestReceiptsEndWithTheNode(t *testing.T) {
	f, s := newFake(t), newSale(t, 1)
	f.on("GET /v1/invoices/subscribe", func(w http.ResponseWriter, r *http.Request) { line(w, settled(s, 8)) })
	var got []uint64
	err := f.node(t).Receipts(soon(t), 7, func(r lightning.Receipt) error {
		got = append(got, r.Index)
		return nil
	})
	if !errors.Is(err, lightning.ErrUnavailable) || !slices.Equal(got, []uint64{8}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestSecretsAreNotQuoted lets lnd quote what it was sent, as it does when it
// cannot parse it.
func TestSecretsAreNotQuoted(t *testing.T) {
	f := newFake(t)
	f.on("POST /", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fault(w, 400, 3, "proto: cannot parse "+string(body)+" with "+r.Header.Get("Grpc-Metadata-macaroon"))
	})
	n, s := f.node(t), newSale(t, 1000)
	raw := s.preimage.Reveal()
	_, err1 := n.Invoice(soon(t), s.preimage, lightning.Terms{Amount: 1000})
	err2 := n.Settle(soon(t), s.preimage)
	for _, err := range []error{err1, err2} {
		if err == nil {
			t.Fatal("no error")
		}
		for _, secret := range []string{s.hex(), base64.StdEncoding.EncodeToString(raw[:]), f.secret, fmt.Sprint(raw)} {
			if said := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(said, secret) {
				t.Errorf("a secret is in %q", said)
			}
		}
	}
}
