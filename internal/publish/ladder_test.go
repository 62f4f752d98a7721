package publish_test

import (
	"math"
	"slices"
	"testing"

	"htlcdash/internal/publish"
)

func TestRungs(t *testing.T) {
	tests := []struct {
		name          string
		width, height int
		want          []string
	}{
		{"1080p", 1920, 1080, []string{"240p 426x240", "360p 640x360", "480p 854x480", "720p 1280x720"}},
		{"just 720p", 1280, 720, []string{"240p 426x240", "360p 640x360", "480p 854x480", "720p 1280x720"}},
		{"never up", 1278, 718, []string{"240p 428x240", "360p 640x360", "480p 854x480"}},
		{"below all", 320, 180, []string{"180p 320x180"}},
		{"odd sides", 101, 77, []string{"76p 100x76"}},
		{"upright", 1080, 1920, []string{"240p 240x426", "360p 360x640", "480p 480x854", "720p 720x1280"}},
		{"4:3", 640, 480, []string{"240p 320x240", "360p 480x360", "480p 640x480"}},
		{"scope", 1920, 800, []string{"240p 576x240", "360p 864x360", "480p 1152x480", "720p 1728x720"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := publish.PlanFor(tt.width, tt.height, "25/1", "25/1", 60, 4).Rungs; !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestSegmentsFallOnFrames(t *testing.T) {
	tests := []struct {
		name             string
		nominal, average string
		length           float64
		seconds          int
		rate             string
		gop, segments    int
		total            float64
	}{
		{"film", "24/1", "24/1", 30, 4, "24/1", 96, 8, 30},
		{"film on NTSC", "24000/1001", "24000/1001", 6.006, 2, "24000/1001", 48, 3, 6.006},
		{"film on NTSC, as a camera writes it", "24000/1001", "2997/125", 6.006, 2, "24000/1001", 48, 3, 6.006},
		{"PAL", "25/1", "25/1", 6, 2, "25/1", 50, 3, 6},
		{"NTSC", "30000/1001", "30000/1001", 6.006, 2, "30000/1001", 60, 3, 6.006},
		{"50", "50/1", "50/1", 6, 2, "50/1", 100, 3, 6},
		{"NTSC 60", "60000/1001", "60000/1001", 6.006, 2, "60000/1001", 120, 3, 6.006},
		{"120 is halved", "120/1", "120/1", 6, 2, "60/1", 120, 3, 6},
		{"slow but even", "10/1", "10/1", 6, 2, "10/1", 20, 3, 6},
		{"uneven", "90000/1", "1733/100", 6, 2, "24/1", 48, 3, 6},
		{"uneven and fast", "90000/1", "5410/100", 6, 2, "60/1", 120, 3, 6},
		{"no rate at all", "0/0", "0/0", 6, 2, "25/1", 50, 3, 6},
		{"a rest worth a segment", "25/1", "25/1", 6.32, 2, "25/1", 50, 4, 6.32},
		{"a rest not worth one", "25/1", "25/1", 6.1, 2, "25/1", 50, 3, 6},
		{"shorter than a segment", "25/1", "25/1", 0.2, 2, "25/1", 50, 1, 0.2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := publish.PlanFor(640, 360, tt.nominal, tt.average, tt.length, tt.seconds)
			if p.Rate != tt.rate || p.GOP != tt.gop || p.Segments != tt.segments || math.Abs(p.Length-tt.total) > 1e-6 {
				t.Errorf("%+v", p)
			}
		})
	}
	t.Run("audio alone", func(t *testing.T) {
		if p := publish.PlanFor(0, 0, "", "", 61.5, 4); p.Segments != 16 || p.Rungs != nil {
			t.Errorf("%+v", p)
		}
	})
}

func TestBandwidth(t *testing.T) {
	tests := []struct {
		name   string
		sizes  []int64
		length float64
		want   int64
	}{
		{"constant", []int64{1000, 1000, 1000, 1000, 1000, 1000}, 12, 4000},
		{"a burst of one", []int64{1000, 1000, 9000, 1000, 1000, 1000}, 12, 18000},
		{"a burst of three", []int64{1000, 9000, 9000, 9000, 1000, 1000}, 12, 27000},
		{"one segment", []int64{1000}, 2, 4000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := publish.Bandwidth(tt.sizes, 2, 4, tt.length); got != tt.want {
				t.Errorf("%d bit/s, want %d", got, tt.want)
			}
		})
	}
}

func TestDecibels(t *testing.T) {
	for ssim, want := range map[float64]int{0.9: 1000, 0.99: 2000, 0.984: 1796, 1: 10000, 0: 1, -0.5: 1} {
		if got := publish.Decibels(ssim); int(got) != want {
			t.Errorf("SSIM %v is %d, want %d", ssim, got, want)
		}
	}
}

func TestListNames(t *testing.T) {
	taken := map[string]bool{}
	for _, tt := range []struct{ id, want string }{
		{"720p", "720p.seals"},
		{"../../etc/passwd", "______etc_passwd.seals"},
		{"A", "A.seals"},
		{"a", "a.2.seals"},
		{"a", "a.3.seals"},
		{"ä b", "__b.seals"},
		{"", "_.seals"},
	} {
		if got := publish.ListName(tt.id, taken); got != tt.want {
			t.Errorf("%q is %q, want %q", tt.id, got, tt.want)
		}
	}
}
