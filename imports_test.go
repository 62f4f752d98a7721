package htlcdash_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mayEnter lists, for every room of the house, the rooms that its code may
// import. What is not listed is forbidden; "*" is everything. A new line here
// is a design decision (doc/design.md, the house).
var mayEnter = map[string][]string{
	".":                        {"lightning"},
	"lightning":                {},
	"lightning/lnd":            {"lightning", "internal/lock", "internal/onion"},
	"lightning/sim":            {"lightning"},
	"lightning/simlnd":         {"lightning", "lightning/sim"},
	"lightning/nodetest":       {"lightning"},
	"agent":                    {"lightning"},
	"agent/replay":             {"agent", "lightning"},
	"agent/replay/titles":      {"agent"},
	"agent/market":             {"lightning"},
	"agent/market/bazaar":      {"agent/market", "lightning"},
	"source":                   {".", "internal/due", "internal/join", "lightning", "source/cache"},
	"source/cache":             {".", "lightning"},
	"source/dir":               {".", "source"},
	"source/web":               {".", "source", "internal/reach"},
	"source/s3":                {".", "source", "source/web"},
	"source/gaia":              {".", "source", "source/web"},
	"source/gaia/gaiatest":     {"source/gaia"},
	"source/open":              {".", "source", "source/dir", "source/gaia", "source/s3", "source/web"},
	"internal/spread":          {".", "internal/title", "source"},
	"source/torrent":           {".", "source", "internal/bittorrent", "internal/reach"},
	"source/sourcetest":        {".", "source"},
	"buyer":                    {".", "lightning", "agent/market", "internal/due", "internal/fraud", "internal/credential", "internal/exchange", "internal/join", "internal/ledger", "internal/proof", "internal/proof/systems", "internal/reach"},
	"internal/cachetrial":      {".", "lightning", "source/cache"},
	"internal/config":          {"lightning"},
	"internal/margin":          {"lightning"},
	"internal/mirror":          {".", "internal/dash", "internal/title"},
	"internal/stock":           {".", "lightning", "buyer", "internal/exchange", "internal/ledger", "internal/margin", "source/cache"},
	"internal/porter":          {},
	"internal/dash":            {".", "lightning"},
	"internal/title":           {".", "lightning", "agent", "internal/dash", "internal/join"},
	"internal/title/titletest": {".", "lightning", "internal/publish", "internal/title"},
	"internal/bittorrent":      {"."},
	"internal/publish":         {".", "lightning", "internal/dash", "internal/title", "internal/bittorrent"},
	"internal/exchange":        {".", "lightning", "internal/proof"},
	"internal/credential":      {".", "lightning"},
	"internal/fraud":           {".", "lightning", "internal/dash", "internal/exchange"},
	"internal/relay":           {".", "lightning", "buyer", "internal/exchange", "internal/ledger"},
	"internal/join":            {},
	"internal/nostr":           {"."},
	"internal/directory":       {".", "lightning", "internal/join", "internal/nostr", "internal/reach"},
	"internal/reach":           {},
	"internal/survey":          {".", "lightning", "buyer", "internal/directory", "internal/reach"},
	"internal/dht":             {"."},
	"internal/due":             {"lightning"},
	"internal/proof":           {},
	"internal/proof/systems":   {"internal/proof", "internal/proof/vole", "internal/proof/zkb"},
	"internal/proof/vole":      {"internal/proof"},
	"internal/proof/zkb":       {"internal/proof"},
	"internal/ledger":          {".", "lightning", "internal/lock"},
	"internal/lock":            {},
	"internal/onion":           {"lightning"},
	"internal/seller":          {".", "lightning", "source", "source/dir", "internal/porter", "internal/credential", "internal/exchange", "internal/ledger", "internal/proof", "internal/title", "internal/web", "internal/bittorrent"},
	"internal/proxy":           {".", "lightning", "agent", "source", "buyer", "internal/dash", "internal/plain", "internal/survey", "internal/title", "internal/web"},
	"internal/plain":           {".", "internal/dash", "internal/reach"},
	"internal/player":          {".", "lightning", "agent", "agent/replay", "buyer", "internal/dash", "internal/plain", "internal/title", "internal/remux"},
	"internal/playertest":      {"lightning", "agent", "agent/replay", "internal/player"},
	"internal/words":           {},
	"internal/player/view":     {"lightning", "agent", "internal/player", "internal/words"},
	"internal/remux":           {"internal/dash"},
	"internal/trial":           {"lightning", "agent", "agent/replay"},
	"internal/chart":           {},
	"internal/town":            {".", "lightning", "lightning/sim", "lightning/simlnd", "internal/ledger", "internal/title"},
	"internal/web":             {},
	"internal/devnet":          {"lightning"},
	"internal/bench":           {".", "lightning", "lightning/lnd", "source", "source/web", "source/torrent", "buyer", "internal/credential", "internal/dash", "internal/devnet", "internal/exchange", "internal/ledger", "internal/proof", "internal/proof/vole", "internal/proof/systems", "internal/publish", "internal/title", "source/dir", "source/gaia", "source/gaia/gaiatest", "source/s3", "internal/porter", "internal/spread", "internal/town"},
	"cmd/htlcdash":             {"*"},
	"itest/swarm":              {},
	"itest":                    {"*"},
}

// pure lists the rooms that take bytes and give bytes: no network, no files,
// no logs. That they read no clock is TestPureRoomsReadNoClock.
var pure = []string{".", "agent", "agent/market", "agent/market/bazaar", "agent/replay", "agent/replay/titles", "internal/bittorrent", "internal/credential", "internal/fraud", "internal/margin", "internal/onion", "internal/proof", "internal/proof/systems", "internal/proof/vole", "internal/proof/zkb", "lightning", "source/cache"}

// keptOut lists the packages of others that a room must do without.
var keptOut = map[string][]string{
	"source":            {"net", "net/http"},
	"internal/exchange": {"net", "net/http", "os"},
	"internal/dash":     {"net", "os"},
	"internal/title":    {"net", "net/http"},
	"buyer":             {"os"},
}

type pkg struct {
	path    string
	imports []string
}

// room is the path of a package below the module.
func (p pkg) room() string { return room(p.path) }

func room(path string) string {
	if path == "htlcdash" {
		return "."
	}
	return strings.TrimPrefix(path, "htlcdash/")
}

func ours(path string) bool { return path == "htlcdash" || strings.HasPrefix(path, "htlcdash/") }

// packages lists the packages of the module with what their code, tests not
// included, imports.
func packages(t *testing.T) (out []pkg) {
	t.Helper()
	list, err := exec.Command("go", "list", "-tags", "itest", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		f := strings.Fields(line)
		out = append(out, pkg{f[0], f[1:]})
	}
	return out
}

func TestRoomsEnterOnlyWhatTheyMay(t *testing.T) {
	for _, p := range packages(t) {
		allowed, ok := mayEnter[p.room()]
		if !ok {
			t.Errorf("%s is a new room: say in this test what it may import", p.room())
		}
		for _, imp := range p.imports {
			if ours(imp) && !slices.Contains(allowed, room(imp)) && !slices.Contains(allowed, "*") {
				t.Errorf("%s must not import %s", p.room(), room(imp))
			}
			if strings.HasPrefix(room(imp), "cmd/") {
				t.Errorf("%s imports %s, which nothing may", p.room(), room(imp))
			}
		}
	}
}

// A line for a room that is gone would allow things to whoever builds one of
// that name.
func TestListsNameRooms(t *testing.T) {
	rooms := map[string]bool{"*": true}
	for _, p := range packages(t) {
		rooms[p.room()] = true
	}
	named := func(list string, names ...string) {
		for _, name := range names {
			if !rooms[name] {
				t.Errorf("%s names %s, which is no room", list, name)
			}
		}
	}
	for room, allowed := range mayEnter {
		named("mayEnter", room)
		named("mayEnter["+room+"]", allowed...)
	}
	named("pure", pure...)
	named("keptOut", slices.Collect(maps.Keys(keptOut))...)
}

func TestPureRoomsDoNothing(t *testing.T) {
	for _, p := range packages(t) {
		if !slices.Contains(pure, p.room()) {
			continue
		}
		for _, imp := range p.imports {
			if imp == "os" || imp == "log" || imp == "net" || strings.HasPrefix(imp, "net/") && imp != "net/url" {
				t.Errorf("%s is pure and must not import %s", p.room(), imp)
			}
		}
	}
}

func TestRoomsKeepOut(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range p.imports {
			if slices.Contains(keptOut[p.room()], imp) {
				t.Errorf("%s must not import %s", p.room(), imp)
			}
		}
	}
}

// The nodes' own code is heavy and pins old versions of much: it stays in the
// nested module.
func TestNoNodeCode(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range p.imports {
			if strings.HasPrefix(imp, "github.com/lightningnetwork/") || strings.HasPrefix(imp, "htlcdash/node") {
				t.Errorf("%s must not import %s", p.room(), imp)
			}
		}
	}
}

func TestPureRoomsReadNoClock(t *testing.T) {
	for _, room := range pure {
		files, err := filepath.Glob(filepath.Join(room, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			if call := clockCall(t, name); call != "" {
				t.Errorf("%s calls %s", name, call)
			}
		}
	}
}

// clockCall returns the first call in the file that reads the clock or waits.
func clockCall(t *testing.T, name string) (call string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
			switch sel.Sel.Name {
			case "Now", "Since", "Until", "After", "Sleep", "NewTimer", "NewTicker", "Tick", "AfterFunc":
				call = "time." + sel.Sel.Name
			}
		}
		return true
	})
	return call
}
