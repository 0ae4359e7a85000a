package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	cli "github.com/urfave/cli/v2"
)

func (e *env) statsCommand() *cli.Command {
	return e.onGrid(&cli.Command{
		Name: "stats", Usage: "count the files and directories below a directory, and their sizes", ArgsUsage: "[PATH]",
		Description: "--json is like --raw.\n" + places,
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "raw", Aliases: []string{"r"}, Usage: "what the node says, in JSON"}},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 1); err != nil {
				return err
			}
			return e.stats(c.Context, c.Args().First(), c.Bool("raw") || e.ui.JSON)
		},
	})
}

// statistics are in Tahoe's order.
var statistics = []string{
	"count-immutable-files", "count-mutable-files", "count-literal-files", "count-files", "count-directories",
	"size-immutable-files", "size-mutable-files", "size-literal-files", "size-directories",
	"largest-directory", "largest-immutable-file",
}

func (e *env) stats(ctx context.Context, where string, raw bool) error {
	at, err := e.at(where)
	if err != nil {
		return err
	}
	node, err := e.open(ctx)
	if err != nil {
		return err
	}
	text, err := node.operation(ctx, at, "start-deep-stats")
	if err != nil {
		return err
	}
	if raw {
		e.ui.Result("%s", text)
		return nil
	}
	var data map[string]json.RawMessage
	var histogram [][3]int64 // smallest and largest size, count
	if err := errors.Join(json.Unmarshal([]byte(text), &data), json.Unmarshal(data["size-files-histogram"], &histogram)); err != nil {
		return fmt.Errorf("the node's answer makes no sense: %w", err)
	}
	e.ui.Result("Counts and Total Sizes:")
	for _, key := range statistics {
		var n int64
		if json.Unmarshal(data[key], &n) != nil {
			continue // not told by every node
		}
		line := fmt.Sprintf("%22s: %d", key, n)
		if !strings.HasPrefix(key, "count-") && n > 1000 {
			line += "    " + bothSizes(n)
		}
		e.ui.Result("%s", line)
	}
	if len(histogram) == 0 {
		return nil
	}
	e.ui.Result("Size Histogram:")
	sizes, counts := 0, 0
	for _, row := range histogram {
		sizes, counts = max(sizes, len(fmt.Sprint(row[1]))), max(counts, len(fmt.Sprint(row[2])))
	}
	for i, row := range histogram {
		if i > 0 && row[0] != histogram[i-1][1]+1 {
			e.ui.Result("%s...", strings.Repeat(" ", sizes-1))
		}
		e.ui.Result("%*d-%-*d : %-*d    %s", sizes, row[0], sizes, row[1], counts, row[2], bothSizes(row[1]))
	}
	return nil
}

// bothSizes is a size in powers of 1000 and of 1024, as Tahoe abbreviates it.
func bothSizes(n int64) string {
	in := func(unit float64, suffix string) string {
		if n < 1024 {
			return fmt.Sprintf("%d B", n)
		}
		size := float64(n) / unit
		for _, prefix := range "kMGTP" {
			if size < unit {
				return fmt.Sprintf("%.2f %c%s", size, prefix, suffix)
			}
			size /= unit
		}
		return fmt.Sprintf("%.2f E%s", size, suffix)
	}
	return "(" + in(1000, "B") + ", " + in(1024, "iB") + ")"
}

// operation starts one of the node's long operations on what is at a path of the web
// API, waits for its end and returns what it found. When ctx ends, it is called off.
func (c *nodeClient) operation(ctx context.Context, at, what string) (string, error) {
	handle := strings.ToLower(rand.Text())
	resp, err := c.roundTrip(ctx, "POST", at+"?t="+what+"&ophandle="+handle, nil, -1, "")
	if err != nil {
		return "", err
	}
	// The answer leads a browser on to the operation's page.
	if err := readAway(resp); err != nil && resp.StatusCode != http.StatusFound {
		return "", err
	}
	path := "/operations/" + handle
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 30*time.Second) {
		text, err := c.text(ctx, "GET", path+"?t=status&output=JSON&release-after-complete=true", nil)
		if err != nil && ctx.Err() == nil {
			return "", err
		}
		var status struct{ Finished bool }
		if err == nil {
			err = json.Unmarshal([]byte(text), &status)
		}
		if err == nil && status.Finished {
			return text, nil
		}
		if err != nil && ctx.Err() == nil {
			return "", fmt.Errorf("the node's answer makes no sense: %w", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			c.text(stop, "POST", path+"?t=cancel&release-after-complete=true", nil) // or it goes on, unheard
			return "", ctx.Err()
		}
	}
}
