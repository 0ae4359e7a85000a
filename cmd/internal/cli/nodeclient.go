package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"warren/cmd/internal/ui"
	"warren/node/config"
	"warren/torutil"
)

// nodeClient talks to the web API of the node of one node directory: Tahoe's
// part, and our verbs below /private/warren/v1/, which want the node's API token.
type nodeClient struct {
	dir, url, token string
	http            *http.Client
}

// openNode reads node.url and the API token of a node directory. It does not
// start the node.
func openNode(ctx context.Context, dir string) (*nodeClient, error) {
	b, err := os.ReadFile(filepath.Join(dir, "node.url"))
	pid, running, runErr := config.Running(ctx, dir)
	// A node that was killed leaves its node.url, and somebody else may listen there
	// by now: what is asked names capabilities. A Tahoe that records no process is
	// believed.
	dead := runErr == nil && !running && pid != 0
	if err != nil || dead {
		if _, cfg := os.Stat(filepath.Join(dir, "tahoe.cfg")); cfg != nil {
			return nil, ui.Fail(ui.ExitNoNode, "warren create-client makes one, warren join CODE joins a grid; -d names another directory", fmt.Errorf("there is no node in %s", dir))
		}
		if running {
			return nil, ui.Fail(ui.ExitNoNode, "[node] web.port in tahoe.cfg gives it one at its next start: tcp:3456:interface=127.0.0.1; a node that has one is still starting",
				fmt.Errorf("the node in %s runs (process %d), but has no web API to ask", dir, pid))
		}
		return nil, ui.Fail(ui.ExitNoNode, "start it: warren -d "+dir+" run", fmt.Errorf("the node in %s is not running", dir))
	}
	c := newNodeClient(dir, strings.TrimSuffix(strings.TrimSpace(string(b)), "/"))
	if _, err := url.Parse(c.url); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "node.url"), err)
	}
	token, err := os.ReadFile(filepath.Join(dir, "private", "api_auth_token"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	c.token = strings.TrimSpace(string(token))
	return c, nil
}

// newNodeClient speaks to the web API at an address, without a token.
func newNodeClient(dir, address string) *nodeClient {
	return &nodeClient{dir: dir, url: address, http: &http.Client{
		Transport: &http.Transport{DialContext: torutil.NewLocal(&torutil.Ledger{}).DialContext, DisableCompression: true},
		// Tahoe leads a browser that asks for a directory on to its page: no file.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// do sends a request; a status outside 2xx is an error that holds the node's own
// words. The caller closes the body.
func (c *nodeClient) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	return c.doLength(ctx, method, path, body, -1)
}

// doLength is do for a body whose length is known; -1 leaves it to the body's type.
func (c *nodeClient) doLength(ctx context.Context, method, path string, body io.Reader, length int64) (*http.Response, error) {
	return c.send(ctx, method, path, body, length, "")
}

// send is doLength for who wants an answer of a certain media type ("": any).
func (c *nodeClient) send(ctx context.Context, method, path string, body io.Reader, length int64, accept string) (*http.Response, error) {
	resp, err := c.roundTrip(ctx, method, path, body, length, accept)
	if err != nil || resp.StatusCode/100 == 2 {
		return resp, err
	}
	return nil, readAway(resp)
}

// readAway closes an answer that nobody reads; a status outside 2xx is an error.
func readAway(resp *http.Response) error {
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what came is what is shown
	if resp.StatusCode/100 == 2 {
		return nil
	}
	return statusError(resp.StatusCode, strings.TrimSpace(string(text)))
}

// roundTrip is send, with every status an answer.
func (c *nodeClient) roundTrip(ctx context.Context, method, path string, body io.Reader, length int64, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return nil, err
	}
	if length >= 0 {
		req.ContentLength = length
	}
	// As the tahoe command: else Tahoe's errors come as pages for browsers.
	req.Header.Set("Accept", cmp.Or(accept, "text/plain, application/octet-stream"))
	if strings.HasPrefix(path, "/private/") {
		req.Header.Set("Authorization", "tahoe-lafs "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // the URL holds a cap
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var file *fs.PathError
		if errors.As(err, &file) { // it is our side that cannot be read
			return nil, err
		}
		return nil, ui.Fail(ui.ExitNoNode, "start it: warren -d "+c.dir+" run", fmt.Errorf("the node in %s does not answer: %w", c.dir, err))
	}
	return resp, nil
}

// statusError turns the node's answer into an error with an exit code.
func statusError(code int, text string) error {
	if text == "" {
		text = http.StatusText(code)
	}
	if strings.HasPrefix(text, "<") { // a page, as Tahoe's 404 is whatever one accepts
		within := func(tag string) string {
			_, after, _ := strings.Cut(text, "<"+tag+">")
			said, _, _ := strings.Cut(after, "</"+tag+">")
			return html.UnescapeString(said)
		}
		title, said := within("h1"), within("p")
		if said == "no details" {
			said = title
		}
		text = cmp.Or(said, http.StatusText(code))
	}
	lines := strings.SplitN(text, "\n", 2)
	for i := range lines {
		lines[i] = ui.Clean(lines[i])
	}
	err := errors.New(lines[0])
	if strings.HasPrefix(text, "UploadUnhappinessError") {
		code = http.StatusServiceUnavailable // Tahoe's web API says 500
	}
	switch code {
	case http.StatusFound, http.StatusMovedPermanently, http.StatusSeeOther:
		return ui.Usage("that is a directory")
	case http.StatusNotFound:
		return ui.Fail(ui.ExitNotFound, "", err)
	case http.StatusGone, http.StatusServiceUnavailable, http.StatusInsufficientStorage:
		return ui.Fail(ui.ExitUnavailable, "warren status shows which storage servers are connected", err)
	case http.StatusBadRequest:
		return ui.Fail(ui.ExitUsage, "", err)
	}
	return ui.Fail(ui.ExitFailed, "", err)
}

// hinted adds a hint to the error of something that is not there.
func hinted(err error, hint string) error {
	var e *ui.Error
	if errors.As(err, &e) && e.Code == ui.ExitNotFound && e.Hint == "" {
		return ui.Fail(e.Code, hint, e.Err)
	}
	return err
}

// text sends a request and returns its whole answer.
func (c *nodeClient) text(ctx context.Context, method, path string, body io.Reader) (string, error) {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// control calls one of our own verbs with a JSON body (nil: none) and decodes
// its JSON answer into out (nil: thrown away).
func (c *nodeClient) control(ctx context.Context, method, verb string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	resp, err := c.do(ctx, method, "/private/warren/v1/"+verb, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}
