package webapi

import (
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// guard refuses requests that a web page from elsewhere could have caused: a
// Host that is not this machine's loopback (a name that was rebound to
// 127.0.0.1) and an Origin that is not our own page.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !localHost(r.Host) {
			plain(w, http.StatusForbidden, "This node answers to 127.0.0.1, [::1] and localhost only, not to this Host.")
			return
		}
		for _, origin := range r.Header.Values("Origin") {
			u, err := url.Parse(origin)
			if err != nil || u.Scheme != "http" || !strings.EqualFold(u.Host, r.Host) {
				plain(w, http.StatusForbidden, "Requests from other web pages (Origin) are refused.")
				return
			}
		}
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer") // the address holds a capability
		h.Set("X-Frame-Options", "DENY")
		next.ServeHTTP(w, r)
	})
}

func localHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Unmap().IsLoopback()
}

// private lets requests with the node's API token through, as Tahoe guards /private.
func private(next http.Handler, token func() string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		want := token()
		if !strings.EqualFold(scheme, "tahoe-lafs") || want == "" ||
			subtle.ConstantTimeCompare([]byte(strings.TrimSpace(given)), []byte(want)) != 1 {
			w.Header().Set("WWW-Authenticate", `tahoe-lafs realm="tahoe-lafs"`)
			plain(w, http.StatusUnauthorized, "This needs the token in private/api_auth_token (Authorization: tahoe-lafs TOKEN).")
			return
		}
		next.ServeHTTP(w, r)
	})
}
