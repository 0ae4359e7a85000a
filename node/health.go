package node

import (
	"context"
	"strconv"

	"warren/node/caps"
	"warren/node/immutable"
	"warren/node/mutable"
	"warren/node/webapi"
)

func (f files) Check(ctx context.Context, c caps.Cap, o webapi.CheckOptions) (*webapi.Health, error) {
	switch checksAs(c) {
	case asImmutable:
		h, err := f.immutable.Check(ctx, c, immutable.CheckOptions(o))
		return immutableHealth(h), err
	case asMutable:
		h, err := f.slots.Check(ctx, c, mutable.CheckOptions(o))
		return mutableHealth(h), err
	}
	return nil, unsupported(c)
}

func (f files) CheckAndRepair(ctx context.Context, c caps.Cap, o webapi.CheckOptions) (*webapi.Repaired, error) {
	switch checksAs(c) {
	case asImmutable:
		r, err := f.immutable.CheckAndRepair(ctx, c, immutable.CheckOptions(o))
		if r == nil {
			return nil, err
		}
		out := &webapi.Repaired{Before: immutableHealth(r.Before), Attempted: r.Attempted, Successful: r.Successful(), Failure: r.Failure}
		if out.After = out.Before; r.After != r.Before {
			out.After = immutableHealth(r.After)
		}
		return out, err
	case asMutable:
		r, err := f.slots.CheckAndRepair(ctx, c, mutable.CheckOptions(o))
		if r == nil {
			return nil, err
		}
		out := &webapi.Repaired{Before: mutableHealth(r.Before), Attempted: r.Attempted, Successful: r.Successful(), Failure: r.Failure}
		if out.After = out.Before; r.After != r.Before {
			out.After = mutableHealth(r.After)
		}
		return out, err
	}
	return nil, unsupported(c)
}

type checkedAs int

const (
	notChecked checkedAs = iota
	asImmutable
	asMutable
)

// checksAs says who can check what c names.
func checksAs(c caps.Cap) checkedAs {
	_, unknown := c.(caps.Unknown)
	switch {
	case c == nil, unknown:
		return notChecked
	case caps.IsImmutable(c):
		return asImmutable
	case caps.IsMutable(c):
		return asMutable
	}
	return notChecked
}

// immutableHealth is what an immutable file's check found, as the web API tells it;
// of a literal, nothing.
func immutableHealth(h *immutable.Health) *webapi.Health {
	if h == nil {
		return nil
	}
	out := &webapi.Health{
		Index: h.Index, Summary: h.Summary, Healthy: h.Healthy(), Recoverable: h.Recoverable(),
		Happiness: h.Happiness(), Good: len(h.Shares), Needed: h.Needed, Expected: h.Total, Hosts: h.Hosts(),
		UnrecoverableVersions: 1, Responding: h.Responding, Sharemap: map[string][]string{},
	}
	if h.Recoverable() {
		out.RecoverableVersions, out.UnrecoverableVersions = 1, 0
	}
	for share, servers := range h.Shares {
		out.Sharemap[strconv.Itoa(share)] = servers
	}
	for _, at := range h.Corrupt {
		out.Corrupt = append(out.Corrupt, webapi.ShareAt{Server: at.Server, Share: at.Share})
	}
	for _, at := range h.Incompatible {
		out.Incompatible = append(out.Incompatible, webapi.ShareAt{Server: at.Server, Share: at.Share})
	}
	for _, t := range h.Troubles {
		out.Troubles = append(out.Troubles, t.String())
	}
	for _, t := range h.Leases {
		out.NoLease = append(out.NoLease, t.Server)
	}
	return out
}

// mutableHealth is the same of a mutable file.
func mutableHealth(h *mutable.Health) *webapi.Health {
	if h == nil {
		return nil
	}
	out := &webapi.Health{
		Index: h.Index, Summary: h.Summary(), Healthy: h.Healthy(), Recoverable: h.Recoverable(),
		Happiness: h.Happiness(), Good: h.Good(), Hosts: h.Hosts(), Wrong: h.Wrong(),
		RecoverableVersions: h.RecoverableVersions(), UnrecoverableVersions: h.UnrecoverableVersions(),
		Responding: h.Responding, Sharemap: h.Sharemap(),
	}
	out.Needed, out.Expected = h.Encoding()
	for _, at := range h.Corrupt {
		out.Corrupt = append(out.Corrupt, webapi.ShareAt{Server: at.Server, Share: at.Share})
	}
	for _, at := range h.Incompatible {
		out.Incompatible = append(out.Incompatible, webapi.ShareAt{Server: at.Server, Share: at.Share})
	}
	for _, t := range h.Troubles {
		out.Troubles = append(out.Troubles, immutable.Trouble(t).String())
	}
	for _, t := range h.Leases {
		out.NoLease = append(out.NoLease, t.Server)
	}
	return out
}
