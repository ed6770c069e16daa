package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/weftnet/weft/internal/atomicfile"
)

const (
	blockCert = "CERTIFICATE"
	blockKey  = "PRIVATE KEY" // PKCS #8
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// loadCA reads the authority in p. The error is os.ErrNotExist if neither of
// its files is there.
func loadCA(p Pair, now time.Time) (*authority, error) {
	certDER, certErr := readPEM(p.Cert, blockCert)
	keyDER, keyErr := readPEM(p.Key, blockKey)
	noCert, noKey := errors.Is(certErr, os.ErrNotExist), errors.Is(keyErr, os.ErrNotExist)
	switch {
	case noCert && noKey:
		return nil, certErr
	case noKey:
		return nil, fmt.Errorf("the authority's certificate %s is here but its key %s is not: run this where the key is, or use another directory", p.Cert, p.Key)
	case noCert:
		return nil, fmt.Errorf("the authority's key %s is here but its certificate %s is not: bring it back, or use another directory", p.Key, p.Cert)
	case certErr != nil:
		return nil, certErr
	case keyErr != nil:
		return nil, keyErr
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, fmt.Errorf("parse the authority's certificate %s: %w", p.Cert, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return nil, fmt.Errorf("parse the authority's key %s: %w", p.Key, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	switch {
	case !ok:
		return nil, fmt.Errorf("the authority's key %s is not an ECDSA key: it was not made by weft", p.Key)
	case !key.PublicKey.Equal(cert.PublicKey):
		return nil, fmt.Errorf("the authority's key %s does not belong to its certificate %s", p.Key, p.Cert)
	case !cert.IsCA:
		return nil, fmt.Errorf("%s is not the certificate of an authority", p.Cert)
	case now.After(cert.NotAfter):
		return nil, fmt.Errorf("the authority's certificate %s expired on %s: move it away with its key, and run this again for a new one, which every node then needs", p.Cert, cert.NotAfter.Format(time.DateOnly))
	}
	return &authority{cert, key}, nil
}

// makeCA makes the authority and writes it to p.
func makeCA(p Pair, now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the authority's key: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "weft etcd authority"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make the authority's certificate: %w", err)
	}
	if err := writePair(p, der, key); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the authority's certificate: %w", err)
	}
	return &authority{cert, key}, nil
}

// issue completes template, signs it for a new key, writes both to p and
// returns when the certificate expires, which is not after the authority's.
func (ca *authority) issue(p Pair, now time.Time, template *x509.Certificate) (time.Time, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return time.Time{}, fmt.Errorf("make key %s: %w", p.Key, err)
	}
	template.NotBefore = now.Add(-backdate)
	template.NotAfter = now.Add(leafLifetime)
	if template.NotAfter.After(ca.cert.NotAfter) {
		template.NotAfter = ca.cert.NotAfter
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return time.Time{}, fmt.Errorf("make certificate %s: %w", p.Cert, err)
	}
	return template.NotAfter, writePair(p, der, key)
}

func readPEM(path, want string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != want {
		return nil, fmt.Errorf("%s holds no PEM block of type %q", path, want)
	}
	return block.Bytes, nil
}

// writePair writes the key first: a certificate without its key is of no use.
func writePair(p Pair, der []byte, key *ecdsa.PrivateKey) error {
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("write key %s: %w", p.Key, err)
	}
	if err := writePEM(p.Key, blockKey, keyDER, 0o600); err != nil {
		return err
	}
	return writePEM(p.Cert, blockCert, der, 0o644)
}

func writePEM(path, blockType string, der []byte, mode fs.FileMode) error {
	text := pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der})
	if err := atomicfile.Write(path, text, mode, 0o700); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
