// Package config is the single source of what can be configured: each field
// of [Config] is at once a command-line flag, an environment variable, a key
// of the configuration file, a line of the commented sample, and a default.
//
// The key "listen" of the table [serve] is the variable HTLCDASH_SERVE_LISTEN.
// On the command line a command's own table has no prefix (htlcdash serve
// --listen), a table that several commands share has one (--node-address). A
// flag goes before the environment, that before the file, and that before the
// default.
//
// The package knows nothing of what the values are for: commands turn them
// into the configurations of the rooms.
package config

import (
	"time"

	"htlcdash/lightning"
)

// Config is everything that can be configured, one field for each table.
type Config struct {
	Log     Log     `embed:"" prefix:"log-"     envprefix:"HTLCDASH_LOG_"     group:"What is written to standard error while a command runs."`
	Node    Node    `embed:"" prefix:"node-"    envprefix:"HTLCDASH_NODE_"    group:"The Lightning node: lnd, by its REST interface."`
	Titles  Titles  `embed:"" prefix:"titles-"  envprefix:"HTLCDASH_TITLES_"  group:"Published titles."`
	Publish Publish `embed:"" prefix:"publish-" envprefix:"HTLCDASH_PUBLISH_" group:"Publishing: what a title costs and who sells it."`
	Stores  Stores  `embed:"" prefix:"stores-"  envprefix:"HTLCDASH_STORES_"  group:"How buckets and hubs are reached, where sealed bytes are published to and fetched from."`
	Serve   Serve   `embed:"" prefix:"serve-"   envprefix:"HTLCDASH_SERVE_"   group:"The provider: who sells segments."`
	Proxy   Proxy   `embed:"" prefix:"proxy-"   envprefix:"HTLCDASH_PROXY_"   group:"The viewer's proxy: what buys segments for any DASH player."`
	Guard   Guard   `embed:"" prefix:"guard-"   envprefix:"HTLCDASH_GUARD_"   group:"The guard of macaroons' budgets (htlcdash wallet guard)."`
	Light   Light   `embed:"" prefix:"light-"   envprefix:"HTLCDASH_LIGHT_"   group:"A Lightning node without a Bitcoin node (htlcdash node --light)."`
}

// Log is the table [log].
type Log struct {
	Level  string `default:"info" enum:"debug,info,warn,error" help:"Least level that is written: debug, info, warn or error."`
	Format string `default:"text" enum:"text,json"             help:"Form of a line: text or json."`
}

// Node is the table [node].
type Node struct {
	Address    string `default:"https://127.0.0.1:8080" help:"Address of lnd's REST interface."`
	TLSCert    Path   `default:"~/.lnd/tls.cert"        help:"Certificate of lnd (tls.cert). Empty: the system's certificates."`
	Macaroon   Path   `default:"~/.lnd/data/chain/bitcoin/mainnet/admin.macaroon" help:"Macaroon for wallet commands. Serve and proxy have weaker ones of their own: see htlcdash wallet bake."`
	RouteHints bool   `help:"Name our private channels in invoices, for a node without public ones."`
}

// Titles is the table [titles].
type Titles struct {
	Folder Path `default:"~/.htlcdash/titles" help:"Folder where titles are published to and sold from. A title is a folder in it, with its keys in a private file beside it."`
}

// Publish is the table [publish].
type Publish struct {
	Key            Path           `default:"~/.htlcdash/publisher.key" help:"File with the publisher's secret key, made on first use. Whoever has it can sign in your name: keep a copy in a safe place."`
	PerMegabyte    lightning.Msat `default:"2 sat"  help:"Price of a million bytes."`
	PerSecond      lightning.Msat `default:"0"      help:"Price of a second, beside the price of its bytes."`
	Floor          lightning.Msat `default:"1 sat"  help:"Least price of a key."`
	Rungs          []string       `help:"Prices of single rungs, by Representation, height or kind: a factor (\"720p=1.5\") or a price of its own (\"audio=30 msat/s\")."`
	Group          string         `default:"auto"   help:"How many segments one key opens. auto: as many small ones as make a proof for the key a tenth of their bytes, within 30 s of sound or 10 s of pictures; none: one; or a length, such as 20s, at most 60s. Who leaves within a group has paid for the rest of it."`
	SegmentSeconds int            `default:"4"      help:"Length of a segment in seconds, for films that are encoded here."`
	Providers      []string       `help:"Addresses of the providers that viewers ask first."`
	Sources        []string       `help:"Web addresses below which the sealed bytes will lie, for anybody: they are written into the title."`
	To             []string       `help:"Where the title is copied to: s3://BUCKET/PREFIX, gaia://HUB/PATH, a folder, or torrent, which prints the links of its torrents. Never its keys."`
}

// Stores is the table [stores].
type Stores struct {
	S3Endpoint    string `name:"s3-endpoint"    default:"https://s3.amazonaws.com" help:"Service of s3:// addresses that name no other by ?endpoint=."`
	S3Region      string `name:"s3-region"      help:"Region of these buckets. Empty: the service is asked."`
	S3Credentials Path   `name:"s3-credentials" default:"~/.aws/credentials" help:"File with keys to buckets, as other tools have it. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go before it. Without either, buckets are asked as anybody may."`
	S3Profile     string `name:"s3-profile"     default:"default" help:"Section of that file."`
	GaiaKey       Path   `name:"gaia-key"       default:"~/.htlcdash/gaia.key" help:"File with the secret key that writes at Gaia hubs, made on first use."`
}

// Serve is the table [serve].
type Serve struct {
	Listen string `default:":8402"                       help:"Address that viewers reach."`
	Page   string `default:"127.0.0.1:8403"              help:"Address of the operator's page. It has no password: keep it on this machine. Empty: no page."`
	Name   string `default:"htlcdash"                    help:"Name of the provider, for people."`
	Secret Path   `default:"~/.htlcdash/provider.secret" help:"File with the secret that offers are derived from, made on first use."`
	ServeBooks
	ServeMacaroon
	Sources         []string       `help:"Where sealed bytes are fetched that are not in the titles' folder: https://, s3:// or gaia:// addresses, or folders, the preferred first."`
	PrivateSources  bool           `help:"Let titles name sources in private networks: only if you trust all their publishers."`
	Cache           Path           `default:"~/.htlcdash/sealed" help:"Folder for sealed bytes that were fetched from sources and from upstream. Empty: they are fetched for each viewer."`
	CacheSize       Bytes          `default:"10 GiB" help:"Most that this cache may hold."`
	Till            string         `default:"invoices" enum:"invoices,interceptor" help:"How money is taken. invoices: the node makes invoices and settles them. interceptor: this program does, and the node keeps nothing of a sale; for an lnd of your own that runs with requireinterceptor and store-final-htlc-resolutions (htlcdash doctor serve)."`
	Files           Path           `help:"Folder of files that are sold by the chunk to who knows their BitTorrent v2 root, whoever published them. Empty: none."`
	FilePrice       lightning.Msat `default:"2 sat" help:"Price of a MiB of these files. A chunk costs 1 sat at least."`
	PriceFactor     float64        `default:"1"   help:"What a segment costs here, times what the publisher asks. Viewers refuse more than 1."`
	Prepaid         []string       `default:"*"   help:"Titles whose segments answer a stranger's request with an invoice (L402 and Payment): names, or * for all. Our own viewers need none."`
	Seed            string         `placeholder:":6881" help:"Address for BitTorrent clients, such as :6881: the titles' sealed bytes are given to all who ask for their torrents. Empty: they are not seeded."`
	TorrentTrackers []string       `help:"BitTorrent trackers that are told what is seeded, http, https or udp URLs."`
	BytePrice       lightning.Msat `default:"0"   help:"Price of a MiB of sealed bytes, which viewers pay after they came. Titles without a key file are carried, then, and no keys of them are sold. With an upstream that takes money for bytes, those are bought there that leave the margin of upstream_factor. 0: bytes are free."`
	ByteStep        Bytes          `default:"0"   help:"Sealed bytes for one credential before they are paid for. 0: two of the longest segments, and what a satoshi pays for."`
	OfferLife       time.Duration  `default:"10m" help:"How long an offer can be paid."`
	OfferRate       float64        `default:"500" help:"Offers a second for one address."`
	InvoiceRate     float64        `default:"1"   help:"Invoices a second for one address of strangers."`
	MaxOpenOffers   int            `default:"20000" help:"Offers that can be paid at one time, of all together."`
	PublicURL       []string       `name:"public-url" help:"Addresses by which viewers reach this provider, such as https://films.example, the preferred first. They are announced with each title; empty: nothing is announced."`
	PublicSources   []string       `help:"Addresses, http or https, where sealed bytes of these titles lie too, such as a public bucket. They are announced with each title, beside those that its publisher names."`
	PublicSeeds     []string       `help:"Addresses, host:port, by which BitTorrent clients reach the seed. They are announced with each title. Empty: the host of the first public_url, with the port of seed."`
	Relays          []string       `help:"Whom announcements of titles are exchanged with: addresses of other providers, and of public Nostr relays (wss://relay.example), which get only ours. More providers are learnt from these."`
	DHT             string         `name:"dht" placeholder:":8402" help:"UDP address at which this provider takes part in a distributed hash table (BitTorrent's, BEP 5), where viewers who know only a title's id find first addresses. It tells that the titles are sold at this host, on the port of the first public_url that is plain http, else of listen. Empty: it takes no part."`
	DHTBootstrap    []string       `name:"dht-bootstrap" help:"Nodes of the table to begin with, host:port, such as other providers'. Empty: it waits for others to come."`

	Proofs           []string       `default:"vole-80,vole-128,zkb-128" help:"Ways in which offers are proved before they are paid. Viewers refuse unproved ones, unless told otherwise."`
	ProofsAhead      int            `default:"32" help:"Proofs of the first kind that are half made ahead of need, while the machine is idle: half a MiB of memory each."`
	Credentials      string         `default:"limited" enum:"free,limited,sold" help:"How anonymous credentials are given out: free, limited (few for one address) or sold."`
	CredentialPrice  lightning.Msat `default:"0"       help:"Price of a batch of 32 credentials, where they are sold."`
	CredentialLife   time.Duration  `default:"1h"      help:"How long a credential serves from when it is first shown."`
	CredentialOffers int            `default:"512"     help:"Offers that can be paid, and so payments in flight, for one credential."`
	CredentialProofs int            `default:"64"      help:"Proofs for one credential until it pays for something."`
	CredentialBytes  Bytes          `default:"256 MiB" help:"Sealed bytes for one credential that it has not paid for."`
	StrangerBytes    Bytes          `default:"4 GiB"   help:"Sealed bytes for one address without a credential, at once and then in an hour. 0: no bound."`
	TrustedProxies   []string       `help:"Addresses or networks of web proxies before this server, which may say who asks (X-Forwarded-For)."`

	ServeUpstream
}

// ServeUpstream is the part of [serve] that makes a provider resell.
type ServeUpstream struct {
	Upstream              []string       `help:"Addresses of providers to buy keys from and sell them on, such as https://films.example. Empty: only own titles are sold."`
	UpstreamMode          string         `default:"pass" enum:"pass,shelf" help:"How a key is sold that is not here yet. pass: it is bought once the viewer's payment is held, so nothing is at risk. shelf: it is bought when a viewer asks what it costs, up to upstream_risk. Either way it is kept, and is our own from then on."`
	UpstreamCarry         []string       `default:"all" help:"Which of their titles are sold: all, or ids of titles and keys of publishers."`
	UpstreamFactor        float64        `default:"1.1" help:"What a key costs here, times what it cost; or upstream_margin more than that, whichever is dearer. What is dearer than the publisher's price is not sold."`
	UpstreamMargin        lightning.Msat `default:"0"   help:"What a key costs here beyond what it cost, at least."`
	UpstreamShelf         float64        `default:"0"   help:"What a key that is here already costs, times what the publisher asks, but not less than it cost: below 1, to be cheaper than others. 0: as dear as if it were bought now."`
	UpstreamBudgetDay     lightning.Msat `default:"20000 sat" help:"Most that is spent upstream in 24 hours. 0: nothing is bought."`
	UpstreamBudgetTitle   lightning.Msat `default:"20000 sat" help:"Most that one title may cost, ever: keys, and sealed bytes where they are paid for. 0: nothing is bought."`
	UpstreamRisk          lightning.Msat `default:"1000 sat"  help:"Most that is spent in a day on keys that nobody has bought here yet, where upstream_mode is shelf: what somebody can make us lose who asks and does not pay. The same sum once more bounds what sealed bytes may cost upstream in a day beyond what they earn here."`
	UpstreamAhead         lightning.Msat `default:"100 sat"   help:"Most that may be lost on keys, and on carriage of sealed bytes, that are bought before anybody asks for them: those that follow what a viewer has just paid for. No more than half of upstream_risk goes into keys. 0: nothing is bought or fetched ahead."`
	UpstreamInFlight      lightning.Msat `default:"1000 sat"  help:"Most that is under way to upstream at a time."`
	UpstreamMaxFee        lightning.Msat `default:"0"     help:"Most that the route of one payment may cost; or upstream_max_fee_percent, whichever is more. It counts as part of what a key costs."`
	UpstreamMaxFeePercent float64        `default:"3"     help:"Most that the route of one payment may cost, in percent of the price; or upstream_max_fee, whichever is more."`
	UpstreamTokenPrice    lightning.Msat `default:"0"     help:"Most that a batch of anonymous credentials may cost, at providers upstream that sell them. It can be lost once for each of them and each title, to viewers who ask and do not pay; beyond that credentials are bought out of what a title has earned. 0: such providers are not bought from."`
	UpstreamMirror        Path           `default:"~/.htlcdash/mirror" help:"Folder for the public files of titles that are resold."`
	ServeRelayMacaroon
	UpstreamComplaints Path `default:"~/.htlcdash/complaints" help:"Folder for complaints about providers upstream who have cheated. Empty: none are kept."`
}

// Proxy is the table [proxy].
type Proxy struct {
	Listen string `default:"127.0.0.1:8404" help:"Address for players and the viewer's page. It spends your money without a password: keep it on this machine."`
	ProxyBuying
	Ahead      time.Duration  `default:"12s"       help:"How far beyond what the player asked for segments are bought."`
	AheadMoney lightning.Msat `default:"0"         help:"Most that may be bought of one title and not asked for yet. 0: only the budgets bound it."`
	Hosts      []string       `help:"Names besides localhost by which this proxy is reached."`
	Origins    []string       `help:"Web pages elsewhere that may play through this proxy, such as https://player.example. They can spend your budget."`
}

// ProxyBuying is the part of [proxy] that says from whom a viewer buys, and for how
// much.
type ProxyBuying struct {
	ProxyProviders
	ProxyBooks
	ProxyMacaroon
	Publishers      []string       `help:"Keys of the publishers whose titles are taken, 64 hexadecimal digits each. Empty: all that the providers sell."`
	Sources         []string       `help:"Where sealed bytes are fetched besides the providers: https://, s3:// or gaia:// addresses, or folders, the preferred first."`
	PrivateSources  bool           `help:"Let titles name sources in private networks: only if you trust all their publishers."`
	Cache           Path           `default:"~/.htlcdash/cache" help:"Folder for sealed bytes that were fetched."`
	CacheSize       Bytes          `default:"2 GiB"     help:"Most that the cache may hold."`
	Torrents        bool           `help:"Fetch sealed bytes from BitTorrent swarms too, at the peers that providers announce. All in a swarm see your address and what you watch, so without this, and peers, trackers or an address below, none is joined."`
	TorrentPeers    []string       `help:"BitTorrent peers, host:port, that are asked for sealed bytes after the providers, besides those that are announced if torrents is set."`
	TorrentTrackers []string       `help:"BitTorrent trackers that are asked for peers, http, https or udp URLs. They learn your address and what you watch."`
	TorrentListen   string         `placeholder:":6881" help:"Address at which other BitTorrent clients may ask for what the cache holds of the titles that are being watched. Empty: none, and nothing is uploaded."`
	BudgetSegment   lightning.Msat `default:"50 sat"    help:"Most that one key may cost, of a segment or of a group, or one payment for sealed bytes, fees included. 0: nothing is bought."`
	BudgetTitle     lightning.Msat `default:"2000 sat"  help:"Most that one title may cost, until another budget is chosen on its page. 0: nothing is bought."`
	BudgetDay       lightning.Msat `default:"10000 sat" help:"Most that is spent in 24 hours. 0: nothing is bought."`
	Profile         string         `default:"film" enum:"film,music,podcast,talk,data-saver,best" help:"What matters to you, until something else is chosen on a film's page: film, music, podcast, talk, data-saver or best."`
	MinHeight       int            `default:"0" help:"Lines of picture that quality is not to fall below, such as 480, as long as the budget carries that to the end. 0: as the profile has it."`
	MaxHeight       int            `default:"0" help:"Lines of picture above which nothing is bought. 0: as the profile has it."`
	Thrift          float64        `default:"0" help:"Decibel of quality that a segment at its best must gain to be worth its price, even with money left. 0: as the profile has it."`
	SoundWeight     float64        `default:"0" help:"What a decibel of sound counts beside one of the picture. 0: as the profile has it."`
	SwitchWeight    float64        `default:"0" help:"What a change of quality counts, in decibel for each decibel. 0: as the profile has it."`
	StallWeight     float64        `default:"0" help:"What a second of waiting counts, in decibel. 0: as the profile has it."`
	Proofs          []string       `default:"vole-80,vole-128,zkb-128" help:"Ways of proof that are believed, the preferred first: who proves in none of them is not bought from."`
	Unproved        bool           `help:"Buy from providers that prove nothing, too: each can take exposure from you, once."`
	Exposure        lightning.Msat `default:"0"         help:"Most that is under way, unproved, to one provider, which it could keep. 0: the price of the title's dearest key."`
	TokenPrice      lightning.Msat `default:"0"         help:"Most that a batch of anonymous credentials may cost, at providers that sell them. 0: such providers are not bought from."`
	BytePriceMax    lightning.Msat `default:"100 msat"  help:"Most that a MiB of sealed bytes may cost, at providers that take money for carrying them; their price counts against the budgets. 0: only free ones are taken."`
	ProxyComplaints
	MaxFee        lightning.Msat `default:"2 sat"     help:"Most that one payment's route may cost; or max_fee_percent, whichever is more."`
	MaxFeePercent float64        `default:"5"         help:"Most that one payment's route may cost, in percent of the price; or max_fee, whichever is more."`
	PayBeside     bool           `help:"Pay a provider that has sold to us already while its bytes are still on their way: quicker, and one key's price at risk."`
}

// Guard is the table [guard].
type Guard struct {
	Tally Path `default:"~/.htlcdash/guard.tally" help:"File of what was spent under each budget. Without it budgets begin anew."`
}

// ProxyProviders is the part of [proxy] that other commands share.
type ProxyProviders struct {
	Providers []string `help:"Addresses of providers, such as https://films.example, the preferred first."`
	Relays    []string `help:"Where providers of a title are looked for, besides at the providers themselves: addresses of providers, and of public Nostr relays (wss://relay.example)."`
	// Who asks shows its address and what it wants to see to strangers.
	DHTBootstrap []string `name:"dht-bootstrap" help:"Nodes of a distributed hash table (BitTorrent's, BEP 5), host:port, such as providers'. Through them providers of a title are looked for when the relays know none. Whoever takes part there can see your address and which title you look for, so without any it is not asked."`
}

// ServeBooks is the part of [serve] that other commands share.
type ServeBooks struct {
	Ledger Path `default:"~/.htlcdash/provider.db" help:"File of the provider's books."`
}

// ProxyBooks is the part of [proxy] that other commands share.
type ProxyBooks struct {
	Ledger Path `default:"~/.htlcdash/viewer.db" help:"File of the viewer's books: what was bought, for how much, and the keys."`
}

// ProxyComplaints is the part of [proxy] that other commands share.
type ProxyComplaints struct {
	Complaints Path `default:"~/.htlcdash/complaints" help:"Folder for complaints: files that prove to anybody that a provider or a publisher has cheated. Empty: none are kept."`
}

// ServeMacaroon is the part of [serve] that other commands share.
type ServeMacaroon struct {
	Macaroon Path `default:"~/.htlcdash/sell.macaroon" help:"Macaroon that may receive and nothing else, made by htlcdash wallet bake sell."`
}

// ServeRelayMacaroon is the part of [serve] that other commands share.
type ServeRelayMacaroon struct {
	UpstreamMacaroon Path `default:"~/.htlcdash/relay.macaroon" help:"Macaroon that may receive, and pay up to a budget, made by htlcdash wallet bake relay. It stands in for macaroon where there is an upstream."`
}

// ProxyMacaroon is the part of [proxy] that other commands share.
type ProxyMacaroon struct {
	Macaroon Path `default:"~/.htlcdash/buy.macaroon" help:"Macaroon that may pay, up to a budget, and nothing else, made by htlcdash wallet bake buy."`
}

// Light is the table [light].
type Light struct {
	Network string   `default:"mainnet" enum:"mainnet,testnet,testnet4,signet,regtest,simnet" help:"Bitcoin network: mainnet, testnet, testnet4, signet, regtest or simnet."`
	Folder  Path     `default:"~/.htlcdash/lnd"  help:"Folder of the node's data. Its wallet is money: keep a copy of the seed."`
	Peers   []string `help:"Bitcoin nodes to follow, host:port, which serve compact block filters (BIP 157). Empty: found by DNS."`
	Alias   string   `default:"htlcdash"         help:"Name of the node, which all see."`
	Listen  string   `help:"Address for other Lightning nodes to connect to, such as :9735. Empty: none, this node connects."`
	REST    string   `name:"rest" default:"127.0.0.1:8080"  help:"Address of the node's REST interface, which node.address names."`
	GRPC    string   `name:"grpc" default:"127.0.0.1:10009" help:"Address of the node's gRPC interface, for lncli and others."`
}
