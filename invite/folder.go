package invite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"warren/invite/message"
)

// An invite to a folder is magic-folder's, invite-v1, between two who are on one
// grid already; either may be magic-folder 24.3.
//
//	newcomer                         inviter
//	   | ---- SPAKE2, both ways ---- |
//	   | <--- join-folder ---------- |     Config.Folder
//	   | ---- join-folder-accept --> |     the reply of AcceptFolder, then Config.Admit
//	   | <--- join-folder-ack ------ |

// AcceptFolder accepts an invite to a folder, as Accept does one to a grid:
// options.Reply is not used, and reply makes the newcomer's Personal directory,
// keeps the folder and answers. It may be called again after a crash; its error
// refuses the invite, unless it wraps ErrNotNow. message.ErrRefused: the inviter
// did not take us in.
func AcceptFolder(ctx context.Context, options AcceptOptions, reply func(context.Context, message.FolderInvite) (message.FolderReply, error)) (message.FolderInvite, error) {
	var inv message.FolderInvite
	err := meet(ctx, options, application{
		id: message.FolderAppID, versions: message.FolderVersions(), refuse: message.EncodeFolderReject,
		talk: func(ctx context.Context, a *acceptance, t *try) (err error) {
			inv, err = a.enterFolder(ctx, t, reply)
			return err
		},
	})
	return inv, err
}

// enterFolder is the newcomer's half.
func (a *acceptance) enterFolder(ctx context.Context, t *try, reply func(context.Context, message.FolderInvite) (message.FolderReply, error)) (message.FolderInvite, error) {
	s := t.session
	var none message.FolderInvite
	b, err := a.waitFor(ctx, s, func(ctx context.Context) ([]byte, error) { return s.Versions(ctx) })
	if err != nil {
		return none, err
	}
	ours, err := message.ParseFolderVersions(b)
	if err != nil {
		return none, err
	}
	if b, err = a.await(ctx, s, 0); err != nil {
		return none, err
	}
	inv, err := message.ParseFolderInvite(b)
	if err != nil {
		return none, err
	}
	a.options.Progress(StageSettings)
	answer, err := reply(ctx, inv)
	if err != nil {
		return none, err
	}
	if b, err = answer.Encode(ours); err != nil {
		return none, err
	}
	if err := s.Send(0, b); err != nil {
		return none, err
	}
	a.options.Progress(StageAcknowledged)
	b, err = a.await(ctx, s, 1)
	if err != nil {
		return inv, fmt.Errorf("%w: %w", ErrUnconfirmed, err)
	}
	if err := message.ParseFolderAck(b); err != nil {
		return none, err
	}
	a.options.Progress(StageMember)
	return inv, nil
}

// folder asks the node what the newcomer shall get, ours: who runs our program.
func (i *Inviter) folder(ctx context.Context, v Invite, ours bool) ([]byte, error) {
	if i.config.Folder == nil || i.config.Admit == nil {
		return nil, errors.New("this node has no folders to invite to")
	}
	f, err := i.config.Folder(ctx, v)
	if err != nil {
		return nil, fmt.Errorf("the invite to the folder: %w", err)
	}
	if !ours {
		f.Ours = nil
	}
	b, err := f.Encode()
	if err != nil {
		return nil, fmt.Errorf("the invite to the folder: %w", err)
	}
	return b, nil
}

// exchangeFolder is the inviter's half. Every step may be repeated after a restart.
func (o *offer) exchangeFolder(ctx context.Context) error {
	s := o.session
	b, err := s.Versions(ctx)
	if err != nil {
		return err
	}
	ours, err := message.ParseFolderVersions(b)
	if err != nil {
		return err
	}
	if err := o.advance(Exchanging); err != nil {
		return err
	}
	if s.Sent() < 1 {
		inv, err := o.inviter.folder(ctx, o.invite(), ours)
		if err != nil {
			return err
		}
		if err := s.Send(0, inv); err != nil {
			return err
		}
	}
	if b, err = s.Message(ctx, 0); err != nil {
		return err
	}
	v := o.invite()
	reply, err := message.ParseFolderReply(b, v.ReadOnly)
	if err != nil {
		return err
	}
	if err := o.admit(ctx, func(ctx context.Context) error { return o.inviter.config.Admit(ctx, v, reply) }, nil); err != nil {
		return err
	}
	if err := s.Send(1, message.EncodeFolderAck(v.Name, "")); err != nil {
		return err
	}
	if err := s.Flush(ctx); err != nil {
		return err
	}
	o.end(Done, "")
	return nil
}

// appID and versions are the wormhole's.
func (v Invite) appID() string {
	if v.FolderOnly {
		return message.FolderAppID
	}
	return message.AppID
}

func (v Invite) versions() json.RawMessage {
	if v.FolderOnly {
		return message.FolderVersions()
	}
	return nil
}

// refusal is what the newcomer hears when the invite fails.
func (v Invite) refusal(text string) []byte {
	if v.FolderOnly {
		return message.EncodeFolderAck(v.Name, text)
	}
	return message.EncodeRefusal(text)
}
