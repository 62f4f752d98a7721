package title_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"htlcdash"
	"htlcdash/internal/publish"
)

// A title is opened as soon as a provider lists it, and its heads are kept: together
// they have a bound, too, when they are read with it or later.
func TestHeadsHaveABound(t *testing.T) {
	const n, size = 5, 14 << 20 // 70 MiB
	for _, kind := range []string{"on demand", "init segments"} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name string, b []byte) {
				if err := os.WriteFile(filepath.Join(dir, name), b, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			var sidx []byte
			for _, v := range []uint32{44, 0x73696478, 0, 1, 1, 0, 0, 1, 100, 2, 0x90000000} {
				sidx = binary.BigEndian.AppendUint32(sidx, v)
			}
			var reps strings.Builder
			for i := range n {
				head := bytes.Repeat([]byte{byte(i)}, size)
				fmt.Fprintf(&reps, `<Representation id="v%d" bandwidth="%d" width="320" height="180" codecs="avc1.640015">`, i, 1000*(i+1))
				if kind == "on demand" {
					write(fmt.Sprintf("%d.mp4", i), append(append(head, sidx...), make([]byte, 100)...))
					fmt.Fprintf(&reps, `<BaseURL>%d.mp4</BaseURL><SegmentBase indexRange="%d-%d"><Initialization range="0-%d"/></SegmentBase>`, i, size, size+len(sidx)-1, size-1)
				} else {
					write(fmt.Sprintf("%d-init", i), head)
					write(fmt.Sprintf("%d-1", i), make([]byte, 100))
					fmt.Fprintf(&reps, `<SegmentTemplate duration="2" media="%d-$Number$" initialization="%d-init"/>`, i, i)
				}
				reps.WriteString(`</Representation>`)
			}
			write("manifest.mpd", []byte(`<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S" minBufferTime="PT2S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>`+
				`<AdaptationSet contentType="video" mimeType="video/mp4">`+reps.String()+`</AdaptationSet></Period></MPD>`))
			key, err := htlcdash.NewPublisherKey([32]byte{31: 7})
			if err != nil {
				t.Fatal(err)
			}
			// What is published is read back as a viewer would.
			_, err = publish.Run(t.Context(), publish.Options{Source: dir, Out: filepath.Join(t.TempDir(), "title"), Key: key, Price: publish.Policy{Floor: 1000}}, nil)
			if !errors.Is(err, htlcdash.ErrFormat) || !strings.Contains(err.Error(), "more than 64 MiB") {
				t.Errorf("error %v", err)
			}
		})
	}
}
