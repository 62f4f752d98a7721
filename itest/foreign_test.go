//go:build itest

package itest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

// TestForeignClient lets a client that is not ours buy single segments: Alby's
// lightning-tools, which knows L402 and the Payment scheme and nothing of us.
func TestForeignClient(t *testing.T) {
	title := titletest.Make(t, titletest.Options{})
	s := newStage(t, title.Dir)
	provider := s.serve(t, freeAddress(t))
	need(t, "foreign/node_modules/@getalby/lightning-tools", "npm ci --prefix itest/foreign")
	macaroon, err := lnd.ReadMacaroon(s.buying)
	if err != nil {
		t.Fatal(err)
	}
	var total lightning.Msat
	for i, scheme := range []string{"l402", "mpp"} {
		t.Run(scheme, func(t *testing.T) {
			seg, plain := title.Segments(t, "v0")[i], title.Plain("v0", i)
			url := provider.url + "/t/" + filepath.Base(title.Dir) + "/" + mediaPath(title, seg)
			cmd := exec.CommandContext(t.Context(), "node", "foreign/buy.mjs", url, scheme)
			node := s.network.Node("viewer")
			cmd.Env = append(os.Environ(), "LND_REST="+node.REST, "NODE_EXTRA_CA_CERTS="+node.CertFile,
				"LND_MACAROON="+hex.EncodeToString(macaroon.Reveal()))
			cmd.Stderr = t.Output()
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("client: %v", err)
			}
			var got struct {
				Status, AgainStatus int
				Sha256, Again       string
				AmountSat           int64
				Payments            int
			}
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatalf("client said %q: %v", out, err)
			}
			t.Logf("%s", out)
			if want := sha256.Sum256(plain); got.Status != 200 || got.Sha256 != hex.EncodeToString(want[:]) {
				t.Errorf("got %d and other bytes than the segment", got.Status)
			}
			if got.AgainStatus != 206 || got.Again != hex.EncodeToString(plain[1:5]) {
				t.Errorf("with the credential: got %d %s", got.AgainStatus, got.Again)
			}
			if got.Payments != 1 {
				t.Errorf("%d payments for one segment", got.Payments)
			}
			paid := lightning.Msat(got.AmountSat) * lightning.Sat
			if paid < seg.Price || paid >= seg.Price+lightning.Sat {
				t.Errorf("paid %v for a segment of %v", paid, seg.Price)
			}
			total += paid
		})
	}
	if got := received(t, admin(t, s.network, "provider"), total); got != total {
		t.Errorf("the client paid %v, the provider's node received %v", total, got)
	}
}
