package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/subnet/etcd/pki"
)

const etcdUsage = `Usage: weftd etcd init --dir DIR HOST...  make certificates for an embedded etcd
`

func cmdEtcd(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return group(ctx, etcdUsage, map[string]command{"init": cmdEtcdInit}, args, stdout, stderr)
}

const etcdInitUsage = `Usage: weftd etcd init --dir DIR HOST...

Makes a certificate authority in DIR, unless there is one, and certificates for
an etcd that clients reach as HOST (names or IP addresses, and always localhost)
and for its clients. Run it again to renew the certificates.
`

func cmdEtcdInit(_ context.Context, args []string, stdout, stderr io.Writer) int {
	var dir string
	set := options.NewSet("weftd etcd init")
	set.String(&dir, "dir", "DIR", "", "where to put the files; must be private, since keys are among them")
	if status, ok := parse(set, etcdInitUsage, args, 1, maxHosts, stdout, stderr); !ok {
		return status
	}
	if dir == "" {
		return fail(stderr, exitUsage, errors.New("--dir is missing: say where to put the files"))
	}
	files, err := pki.Init(dir, set.Args())
	if err != nil {
		return fail(stderr, exitFailed, fmt.Errorf("make the certificates: %w", err))
	}
	printFiles(stdout, files, set.Args()[0])
	return exitOK
}

// maxHosts is how many names one certificate may have here.
const maxHosts = 100

// printFiles says where each file goes, as flags to be copied; host is how
// others reach etcd.
func printFiles(w io.Writer, f pki.Files, host string) {
	made := "the authority that was there"
	if f.NewCA {
		made = "a new authority"
	}
	fmt.Fprintf(w, `Made certificates of %s, which expires on %s.
Keep its key at a safe place, needed only to make more certificates:
  %s

The host that runs etcd (certificate until %s):
  weftd --etcd-embedded --etcd-embedded-listen=https://0.0.0.0:2379 \
    --etcd-embedded-ca-file=%s \
    --etcd-embedded-cert-file=%s \
    --etcd-embedded-key-file=%s

Every other host, with copies of these files (certificate until %s):
  weftd --etcd-endpoints=https://%s \
    --etcd-cafile=%s \
    --etcd-certfile=%s \
    --etcd-keyfile=%s
`, made, f.CA.NotAfter.Format(time.DateOnly), f.CA.Key,
		f.Server.NotAfter.Format(time.DateOnly), f.CA.Cert, f.Server.Cert, f.Server.Key,
		f.Client.NotAfter.Format(time.DateOnly), net.JoinHostPort(host, "2379"), f.CA.Cert, f.Client.Cert, f.Client.Key)
}
