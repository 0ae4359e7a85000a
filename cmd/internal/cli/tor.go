package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	cli "github.com/urfave/cli/v2"

	"warren/cmd/internal/ui"
	"warren/torutil"
)

// torOptions name the tor to use; Tahoe's names, and tor-torrc of ours.
type torOptions struct {
	launch                         bool
	control, socks, exe, torrcFile string
}

func torFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "tor-launch", Usage: "launch a tor of its own"},
		&cli.StringFlag{Name: "tor-control-port", Usage: "use the running tor with this control port"},
		&cli.StringFlag{Name: "tor-socks-port", Usage: "use the running tor with this SOCKS port"},
		&cli.StringFlag{Name: "tor-executable", Usage: "the tor to launch"},
		&cli.StringFlag{Name: "tor-torrc", Usage: "a file of further torrc lines for a launched tor: bridges"},
	}
}

func readTorFlags(c *cli.Context) torOptions {
	return torOptions{
		launch: c.Bool("tor-launch"), control: c.String("tor-control-port"), socks: c.String("tor-socks-port"),
		exe: c.String("tor-executable"), torrcFile: c.String("tor-torrc"),
	}
}

// find completes options that name no tor: one that runs on a usual SOCKS port
// (Debian's service, Tor Browser), else the system's, launched.
func (o *torOptions) find(ctx context.Context) error {
	if o.torrcFile != "" {
		abs, err := filepath.Abs(o.torrcFile)
		if err != nil {
			return err
		}
		o.torrcFile = abs
	}
	if o.launch || o.control != "" || o.socks != "" {
		return nil
	}
	if o.exe == "" && o.torrcFile == "" {
		local := torutil.NewLocal(&torutil.Ledger{})
		for _, port := range []int{9050, 9150} {
			address := fmt.Sprintf("127.0.0.1:%d", port)
			tctx, cancel := context.WithTimeout(ctx, time.Second)
			conn, err := local.DialContext(tctx, "tcp", address)
			cancel()
			if err == nil {
				conn.Close()
				o.socks = "tcp:" + address
				return nil
			}
		}
	}
	exe := o.exe
	if exe == "" {
		exe = "tor"
	}
	if _, err := exec.LookPath(exe); err != nil {
		return ui.Fail(ui.ExitTor, torHint+"; --direct does without Tor, and shows your address to the grid", errors.New("no tor is running here, and none is installed"))
	}
	o.launch = true
	return nil
}

// into finds a tor and writes it into a Network's settings.
func (o *torOptions) into(ctx context.Context, t *torutil.TorConfig) error {
	if err := o.find(ctx); err != nil {
		return err
	}
	t.Launch, t.ControlPort, t.SOCKSPort, t.Executable, t.TorrcFile = o.launch, o.control, o.socks, o.exe, o.torrcFile
	return nil
}
