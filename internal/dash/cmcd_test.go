package dash_test

import (
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"htlcdash/internal/dash"
)

func TestCMCDInTheQuery(t *testing.T) {
	for _, tt := range []struct {
		name, said string
		want       dash.CMCD
	}{
		{"nothing", "", dash.CMCD{}},
		{
			"dash.js", `bl=5900,br=1400,cid="c1",d=2000,mtp=226600,nor="seg-2-00005.m4s",ot=v,sid="s1",tb=1400`,
			dash.CMCD{
				Present: true, Buffer: 5900 * time.Millisecond, BufferKnown: true, Bitrate: 1_400_000, ContentID: "c1", Duration: 2 * time.Second,
				Throughput: 226_600_000, NextObject: "seg-2-00005.m4s", ObjectType: "v", SessionID: "s1", TopBitrate: 1_400_000,
			},
		},
		{
			"the rest", `bs,su,dl=100,rtp=2500,st=v,sf=d,pr=1.5,nrr="5-",bl=0,com.example-x="a,b=c"`,
			dash.CMCD{
				Present: true, Starved: true, Startup: true, Deadline: 100 * time.Millisecond, MaxRate: 2_500_000, StreamType: "v", Format: "d",
				PlaybackRate: 1.5, NextRange: "5-", BufferKnown: true,
			},
		},
		{"escapes", `sid="a\"b\\,c",nor="..%2Fa%2520b.m4s"`, dash.CMCD{Present: true, SessionID: `a"b\,c`, NextObject: "../a%20b.m4s"}},
		{"version 2", `br=(1400;v 64),nor=("a.m4s";r="0-5" "b.m4s"),bs=?0,su=?1,v=2`, dash.CMCD{Present: true, Bitrate: 1_400_000, NextObject: "a.m4s", Startup: true}},
		{"malformed values", `bl=x,br=-1,d=99999999999999999999,mtp=1e9,pr=NaN,nor="%zz",sid="never closed`, dash.CMCD{Present: true}},
		{"malformed list", `,,=,;;,"x",(`, dash.CMCD{}},
		{"unknown keys only", `zz=1`, dash.CMCD{}},
		{"text too long", `sid="` + strings.Repeat("s", 129) + `"`, dash.CMCD{Present: true}},
		{"all too long", `bs,sid="` + strings.Repeat("s", 5000) + `"`, dash.CMCD{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := dash.ParseCMCD(url.Values{"CMCD": {tt.said}}, nil); got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestCMCDInHeaders(t *testing.T) {
	h := http.Header{}
	h.Set("CMCD-Object", `br=300,ot=a`)
	h.Set("CMCD-Request", `bl=100`)
	h.Set("CMCD-Session", `sid="s"`)
	h.Set("CMCD-Status", `bs`)
	want := dash.CMCD{Present: true, Bitrate: 300_000, ObjectType: "a", Buffer: 100 * time.Millisecond, BufferKnown: true, SessionID: "s", Starved: true}
	if got := dash.ParseCMCD(nil, h); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestCMCDNext(t *testing.T) {
	for _, tt := range []struct {
		path string
		said dash.CMCD
		want string
		at   int64
	}{
		{"v/1.m4s", dash.CMCD{NextObject: "2.m4s"}, "v/2.m4s", 0},
		{"v/1.m4s", dash.CMCD{NextObject: "../w/2.m4s"}, "w/2.m4s", 0},
		{"v/1.m4s", dash.CMCD{NextObject: "a%20b.m4s?x=1"}, "v/a b.m4s", 0},
		{"a b/1.m4s", dash.CMCD{NextObject: "2.m4s"}, "a b/2.m4s", 0},
		{"v.mp4", dash.CMCD{NextRange: "500-999"}, "v.mp4", 500},
		{"v.mp4", dash.CMCD{NextRange: "500-"}, "v.mp4", 500},
		{"v.mp4", dash.CMCD{NextObject: "v.mp4", NextRange: "7-9"}, "v.mp4", 7},
		{"v/1.m4s", dash.CMCD{}, "", 0},
		{"v/1.m4s", dash.CMCD{NextObject: "../../etc"}, "", 0},
		{"v/1.m4s", dash.CMCD{NextObject: "/t/x/v/2.m4s"}, "", 0},
		{"v/1.m4s", dash.CMCD{NextObject: "http://example/2.m4s"}, "", 0},
		{"v/1.m4s", dash.CMCD{NextObject: "."}, "", 0},
	} {
		path, at, ok := tt.said.Next(tt.path)
		if path != tt.want || at != tt.at || ok != (tt.want != "") {
			t.Errorf("after %s, %q %q: %q at %d, %v; want %q at %d", tt.path, tt.said.NextObject, tt.said.NextRange, path, at, ok, tt.want, tt.at)
		}
	}
}
