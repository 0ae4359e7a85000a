package foolscap

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"warren/node/foolscap/banana"
)

// Object is something of ours that peers may call. It is known by its address:
// sent twice to a peer, it is the same object there.
type Object struct {
	// Interface is the remote interface name, "" for none. Foolscap peers that know
	// it check arguments by it.
	Interface string
	// Handler answers the calls. nil is an object that is only held.
	Handler Handler
}

// Handler answers calls. It is called for one call at a time for each object and
// connection, at the same time for different ones. The context ends with the
// connection. The references among the arguments are the handler's: it releases
// those that it does not keep. A peer that has more calls under way than may wait is
// not read, so a handler that waits for an answer from its own caller may wait until
// the connection is given up.
type Handler interface {
	Handle(ctx context.Context, c Call) (answer any, err error)
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(ctx context.Context, c Call) (any, error)

// Handle calls the function.
func (f HandlerFunc) Handle(ctx context.Context, c Call) (any, error) { return f(ctx, c) }

// Call is one call as a Handler gets it: foreign in every part.
type Call struct {
	// Peer is the caller's tub id, which TLS has proven.
	Peer string
	// Method is what to do, as it was sent.
	Method string
	Args   Args
}

// Args are the arguments of a call, in the types of package banana, and *Object
// for what is passed by reference: of ours as *Object, of the peer's as *Remote.
type Args struct {
	Positional []any
	Keyword    map[string]any
}

// With is a call's positional arguments.
func With(positional ...any) Args { return Args{Positional: positional} }

// Bind sorts the arguments by the names of a method's parameters, as Python does:
// values[i] is the argument called names[i]. Missing, unknown and double ones are
// a Violation.
func (a Args) Bind(names ...string) ([]any, error) {
	if len(a.Positional)+len(a.Keyword) != len(names) {
		return nil, Violation("wrong number of arguments")
	}
	values := slices.Clone(a.Positional)
	for _, name := range names[len(a.Positional):] {
		v, ok := a.Keyword[name]
		if !ok {
			return nil, Violation("missing argument %q", name)
		}
		values = append(values, v)
	}
	return values, nil
}

// Release releases every reference among the arguments, for a handler that keeps
// none.
func (a Args) Release() {
	release(a.Positional)
	for _, v := range a.Keyword {
		release(v)
	}
}

// release releases the references in a received value.
func release(v any) {
	switch v := v.(type) {
	case *Remote:
		v.Release()
	case []any:
		releaseAll(v)
	case banana.Tuple:
		releaseAll(v)
	case banana.Set:
		releaseAll(v)
	case banana.FrozenSet:
		releaseAll(v)
	case banana.Dict:
		for _, p := range v {
			release(p.Value)
		}
	case banana.Sequence:
		releaseAll(v.Items)
	}
}

func releaseAll(values []any) {
	for _, v := range values {
		release(v)
	}
}

func (a Args) sequence() banana.Sequence {
	items := []any{len(a.Positional)}
	items = append(items, a.Positional...)
	for _, name := range slices.Sorted(maps.Keys(a.Keyword)) {
		items = append(items, []byte(name), a.Keyword[name])
	}
	return banana.Sequence{Type: "arguments", Items: items}
}

// parseArgs reads an arguments sequence.
func parseArgs(v any) (Args, error) {
	s, ok := v.(banana.Sequence)
	if !ok || s.Type != "arguments" || len(s.Items) == 0 {
		return Args{}, Violation("malformed arguments")
	}
	n, ok := s.Items[0].(int64)
	rest := s.Items[1:]
	if !ok || n < 0 || n > int64(len(rest)) || (int64(len(rest))-n)%2 != 0 {
		return Args{}, Violation("malformed arguments")
	}
	a := Args{Positional: rest[:n:n]}
	for rest = rest[n:]; len(rest) > 0; rest = rest[2:] {
		name, ok := rest[0].([]byte)
		if !ok {
			return Args{}, Violation("malformed arguments")
		}
		if a.Keyword == nil {
			a.Keyword = map[string]any{}
		}
		if _, twice := a.Keyword[string(name)]; twice {
			return Args{}, Violation("argument twice")
		}
		a.Keyword[string(name)] = rest[1]
	}
	return a, nil
}

// parseCall reads a call message.
func parseCall(s banana.Sequence) (request, target int64, c Call, err error) {
	if len(s.Items) != 4 {
		return 0, 0, c, fmt.Errorf("%w: malformed call", banana.ErrProtocol)
	}
	request, okR := s.Items[0].(int64)
	target, okT := s.Items[1].(int64)
	method, okM := s.Items[2].([]byte)
	if !okR || request < 0 || request > maxID || !okT || !okM {
		return 0, 0, c, fmt.Errorf("%w: malformed call", banana.ErrProtocol)
	}
	c.Method = string(method)
	c.Args, err = parseArgs(s.Items[3])
	return request, target, c, err
}
