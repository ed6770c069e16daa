package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc/credentials"
)

// tlsFiles names the PEM files of an https endpoint; each may be "".
type tlsFiles struct {
	Cert, Key, CA string
}

func (f tlsFiles) empty() bool { return f == tlsFiles{} }

// check reads the files, so that a wrong path shows at start.
func (f tlsFiles) check() error {
	if f.Cert == "" && f.Key != "" {
		return errors.New("an etcd key file is given without a certificate: set --etcd-certfile")
	}
	if f.Cert != "" && f.Key == "" {
		return errors.New("an etcd certificate is given without its key: set --etcd-keyfile")
	}
	_, err := f.load()
	return err
}

// load reads the files into a client's configuration.
func (f tlsFiles) load() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.Cert != "" {
		cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("read etcd client certificate %s and key %s: %w", f.Cert, f.Key, err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("read etcd CA file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read etcd CA file %s: it holds no certificate in PEM form", f.CA)
		}
	}
	return cfg, nil
}

// reloadingTLS are gRPC credentials that read the files anew for each
// connection, so that rotated certificates and authorities are used from the
// next one on. A file caught half-written fails that handshake; gRPC dials
// again.
type reloadingTLS struct {
	files tlsFiles
}

var _ credentials.TransportCredentials = reloadingTLS{}

func (t reloadingTLS) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cfg, err := t.files.load()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(cfg).ClientHandshake(ctx, authority, raw)
}

func (reloadingTLS) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("client credentials cannot serve")
}

func (reloadingTLS) Info() credentials.ProtocolInfo {
	return credentials.NewTLS(nil).Info()
}

func (t reloadingTLS) Clone() credentials.TransportCredentials { return t }

// OverrideServerName is deprecated in the interface and called by nobody here.
func (reloadingTLS) OverrideServerName(string) error {
	return errors.New("not supported")
}
