// Command htlcdash publishes, sells and buys DASH video by the segment over
// the Lightning Network.
//
// It is the only room that knows all others: each file here is a command that
// turns configuration into the rooms that do the work. Nothing else is decided
// here, and nothing imports it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"htlcdash/internal/config"
	"htlcdash/internal/words"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// hurry is when a second Ctrl-C ends the program at once. One before it may be
// the same, sent to us and again to our process group.
const hurry = time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { time.AfterFunc(hurry, stop) })
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(words.NewWriter(os.Stderr), failure(err, ctx.Err() != nil))
	}
	os.Exit(exitCode(err))
}

// failure is an error for people. What follows its first line is set in, so that a
// stranger's words cannot pass for what comes after the error.
func failure(err error, interrupted bool) string {
	text := "htlcdash: "
	if interrupted {
		text += "interrupted: "
	}
	return text + strings.ReplaceAll(err.Error(), "\n", "\n  ")
}

// exitCode maps the error of run to the code that a shell sees.
func exitCode(err error) int {
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	}
	return exitError
}

// usageError is a command line, environment or file that cannot be understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// commands is the command line. Each command's flags are tables of
// [config.Config] or belong to it alone.
type commands struct {
	File config.Path `name:"config" env:"HTLCDASH_CONFIG" placeholder:"FILE" help:"Configuration file; ~/.htlcdash/htlcdash.toml if it exists."`
	Log  config.Log  `embed:"" prefix:"log-" envprefix:"HTLCDASH_LOG_"`

	Init     initCommand      `cmd:"" help:"Write a commented configuration file."`
	Config   configCommands   `cmd:"" help:"Check the configuration."`
	Demo     demoCommand      `cmd:"" help:"See all of it work on this machine, with play money."`
	Publish  publishCommand   `cmd:"" help:"Turn a film into a title that can be sold."`
	Serve    serveCommand     `cmd:"" help:"Sell titles: run a provider."`
	Proxy    proxyCommand     `cmd:"" help:"Buy titles for any DASH player: run a viewer's proxy."`
	Market   marketCommand    `cmd:"" help:"See what is on sale, who sells it, for how much, and how soon each answers."`
	Play     playCommand      `cmd:"" help:"Play a title without a player: what is seen, what it costs, and a stream for a pipe."`
	Get      getCommand       `cmd:"" help:"Buy a file by its BitTorrent v2 root, chunk by chunk."`
	Files    filesCommand     `cmd:"" help:"List the files in a folder, or those that a provider sells, with their roots."`
	Wallet   walletCommands   `cmd:"" help:"Use the Lightning node: channels, payments, macaroons."`
	Node     nodeCommand      `cmd:"" help:"Run a Lightning node without a Bitcoin node."`
	Doctor   doctorCommand    `cmd:"" help:"Look what does not work, and say how to mend it."`
	Simulate simulateCommands `cmd:"" help:"See what the agent would buy on recorded networks, beside others and beside the best possible."`
	Bench    benchCommand     `cmd:"" help:"Measure it beside plain baselines; needs a checkout."`
	Ledger   ledgerCommands   `cmd:"" help:"Read the books."`
	Judge    judgeCommand     `cmd:"" name:"verify-fraud" help:"Judge a complaint: see whether it proves that somebody cheated."`
	Version  versionCommand   `cmd:"" help:"Print the version."`
}

// BeforeResolve reads the configuration file, so that it fills the flags that
// are not set.
func (*commands) BeforeResolve(k *kong.Context) error {
	for _, f := range k.Flags() {
		if f.Name != "config" {
			continue
		}
		file, err := config.Open(k.FlagValue(f).(config.Path))
		if err != nil {
			return err
		}
		k.Bind(file)
		k.AddResolver(file)
	}
	return nil
}

// A terminal is where a command reads and writes for people. Whatever it writes
// goes through package words; [words.Raw] is for what is no text.
type terminal struct {
	in       io.Reader
	out, err io.Writer
}

func newTerminal(in io.Reader, out, err io.Writer) terminal {
	return terminal{in, words.NewWriter(out), words.NewWriter(err)}
}

// run runs one command line. It is main without the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	var c commands
	helped := false
	parser, err := newParser(&c, stdout, stderr, func(int) { helped = true })
	if err != nil {
		return err
	}
	k, err := parser.Parse(args)
	if helped {
		return nil
	}
	if err != nil {
		return usageError{fmt.Errorf("%w\nhtlcdash --help shows all commands", err)}
	}
	k.BindTo(ctx, (*context.Context)(nil))
	t := newTerminal(stdin, stdout, stderr)
	return k.Run(t, newLogger(c.Log, t.err))
}

func newParser(c *commands, stdout, stderr io.Writer, exit func(int)) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("htlcdash"),
		kong.Description("Publish, sell and watch video by the segment over the Lightning Network.\n\nSee it work on this machine alone: htlcdash demo"),
		kong.Writers(stdout, stderr),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.ValueFormatter(flagHelp),
		config.Environment(),
	)
}

// flagHelp leaves the variables to the sample file. The default of a flag
// stands beside its name, that of an argument would be missing.
func flagHelp(v *kong.Value) string {
	if v.Flag != nil || v.Default == "" {
		return v.Help
	}
	return v.Help + " [" + v.Default + "]"
}

func newLogger(c config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // kong has checked it
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
