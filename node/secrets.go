package node

import (
	"crypto/ed25519"
	"crypto/tls"

	"warren/node/config"
)

// secrets are what a node is, on disk in private/. They are made when missing.
type secrets struct {
	certificate tls.Certificate
	tubID       string
	key         ed25519.PrivateKey
	keyID       string // "v0-…": how announcements name the node
	lease       []byte
	convergence []byte
	token       config.Token
}

func loadSecrets(cfg *config.Node) (s secrets, err error) {
	if err = cfg.SecurePrivate(); err != nil {
		return s, err
	}
	if s.certificate, s.tubID, err = cfg.Tub(); err != nil {
		return s, err
	}
	if s.token, err = cfg.NewAPIToken(); err != nil {
		return s, err
	}
	if cfg.Kind == config.Introducer {
		return s, nil
	}
	if s.key, err = cfg.Identity(); err != nil {
		return s, err
	}
	s.keyID = config.NodeID(s.key.Public().(ed25519.PublicKey))
	if s.lease, err = cfg.LeaseSecret(); err != nil {
		return s, err
	}
	s.convergence, err = cfg.ConvergenceSecret()
	return s, err
}
