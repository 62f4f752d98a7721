package network

// What goes over stdout and stdin: one JSON object a line.
//
//	us:   {"event":"progress","step":"chain","text":"...","done":0.4}   until ready
//	us:   {"event":"ready","nodes":[...],"channels":[...],...}          once
//	them: {"id":1,"command":"mine","blocks":6}                         any number, at once if they like
//	us:   {"event":"answer","id":1,"result":{"height":462}}            one for each command, in any order
//	us:   {"event":"answer","id":2,"error":"node \"x\": not of this network"}
//	us:   {"event":"died","name":"viewer","text":"..."}                 when a child ends that nobody ended
//	us:   {"event":"failed","text":"..."}                               last words, with exit status 1
//
// The end of stdin ends the network, as do SIGINT and SIGTERM.

// Progress tells how far the start is.
type Progress struct {
	Event string  `json:"event"` // "progress"
	Step  string  `json:"step"`  // "chain", "nodes", "funds", "channels", "graph"
	Text  string  `json:"text"`  // for people
	Done  float64 `json:"done"`  // of the whole start, 0 to 1
}

// Ready describes the network.
type Ready struct {
	Event    string        `json:"event"` // "ready"
	Fresh    bool          `json:"fresh"` // made anew in this run
	Seconds  float64       `json:"seconds"`
	Chain    ChainInfo     `json:"chain"`
	Nodes    []NodeInfo    `json:"nodes"`
	Channels []ChannelInfo `json:"channels"`
}

// ChainInfo is how to reach btcd.
type ChainInfo struct {
	P2P    string `json:"p2p"` // for light clients
	RPC    string `json:"rpc"`
	Height int64  `json:"height"`
	PID    int    `json:"pid"`
}

// NodeInfo is how to reach one lnd. Files are absolute paths.
type NodeInfo struct {
	Name     string `json:"name"`
	ID       string `json:"id"`   // public key, hexadecimal
	REST     string `json:"rest"` // https://host:port
	GRPC     string `json:"grpc"` // host:port
	P2P      string `json:"p2p"`  // host:port
	Cert     string `json:"tls_cert"`
	Macaroon string `json:"admin_macaroon"`
	Log      string `json:"log"`
	PID      int    `json:"pid"` // 0: not running
}

// ChannelInfo is one channel, as its funder sees it.
type ChannelInfo struct {
	Point    string `json:"point"` // txid:index of the funding output
	ID       uint64 `json:"id,string"`
	From     string `json:"from"`
	To       string `json:"to"`
	Capacity int64  `json:"capacity_sat"`
	Local    int64  `json:"local_sat"`  // of From
	Remote   int64  `json:"remote_sat"` // of To
	Private  bool   `json:"private"`
	Active   bool   `json:"active"`
}

// Balance is what a node owns, in satoshi.
type Balance struct {
	Wallet      int64 `json:"wallet_sat"`      // confirmed, on the chain
	Unconfirmed int64 `json:"unconfirmed_sat"` // on the chain
	Local       int64 `json:"local_sat"`       // in open channels
	Remote      int64 `json:"remote_sat"`      // of the others in them
}

// A Command asks for something. Which fields count stands at the command in
// serve.go.
type Command struct {
	ID      uint64 `json:"id"`
	Command string `json:"command"`
	Blocks  int    `json:"blocks,omitempty"`
	Node    string `json:"node,omitempty"`
	Address string `json:"address,omitempty"`
	Amount  int64  `json:"amount_sat,omitempty"`

	NodeSpec    *NodeSpec    `json:"node_spec,omitempty"`
	ChannelSpec *ChannelSpec `json:"channel_spec,omitempty"`
}

type died struct {
	Event string `json:"event"`
	Name  string `json:"name"`
	Text  string `json:"text"`
}

type answer struct {
	Event  string `json:"event"`
	ID     uint64 `json:"id"`
	Result any    `json:"result,omitempty"`
	Error  string `json:"error,omitempty"`
}

type failed struct {
	Event string `json:"event"`
	Text  string `json:"text"`
}
