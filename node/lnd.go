package main

import (
	"errors"
	"os"

	"github.com/btcsuite/btcwallet/snacl"
	"github.com/btcsuite/btcwallet/waddrmgr"
	"github.com/jessevdk/go-flags"
	"github.com/lightningnetwork/lnd"
	"github.com/lightningnetwork/lnd/signal"

	"htlcdash/node/network"
)

// runLnd is lnd itself: args are its flags.
func runLnd(args []string) error {
	interceptor, err := signal.Intercept()
	if err != nil {
		return err
	}
	os.Args = append(os.Args[:1:1], args...) // lnd reads its flags there
	config, err := lnd.LoadConfig(interceptor)
	var help *flags.Error
	if errors.As(err, &help) && help.Type == flags.ErrHelp {
		return nil
	}
	if err != nil {
		return err
	}
	private := config.Bitcoin.SimNet || config.Bitcoin.RegTest
	if private && os.Getenv(network.EnvFastScrypt) == "1" {
		stretchLess()
	}
	return lnd.Main(config, lnd.ListenerCfg{}, config.ImplementationConfig(interceptor), interceptor)
}

// stretchLess lets new wallets be made in a moment. Their password on a
// private network is the one that everybody knows anyway.
func stretchLess() {
	waddrmgr.SetSecretKeyGen(func(pass *[]byte, _ *waddrmgr.ScryptOptions) (*snacl.SecretKey, error) {
		return snacl.NewSecretKey(pass, 16, 8, 1)
	})
}
