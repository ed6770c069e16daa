package etcd

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestErrors provokes what users run into, and reads what they are told.
func TestErrors(t *testing.T) {
	f := initPKI(t)
	secure := tlsMember(t, f, true).Endpoints()[0]
	good := Config{CertFile: f.Client.Cert, KeyFile: f.Client.Key, CAFile: f.CA.Cert}
	with := func(cfg Config, endpoint string) Config {
		cfg.Endpoints = []string{endpoint}
		return cfg
	}
	mute := newProxy(t, shared.Endpoints()[0])
	mute.silence()
	closed := closedPort(t)
	plain := shared.Endpoints()[0]

	for name, tt := range map[string]struct {
		cfg  Config
		want []string // parts of the error
		away bool     // it may answer later
	}{
		"refused":        {Config{Endpoints: []string{closed}}, []string{"list the leases: etcd at " + closed + ": connection refused: is etcd running, and does it listen there?"}, true},
		"both refused":   {Config{Endpoints: []string{closed, closedPort(t)}}, []string{closed + ", http://127.0.0.1:", "connection refused"}, true},
		"no answer":      {Config{Endpoints: []string{mute.url}}, []string{"no answer within 400ms"}, true},
		"no such host":   {Config{Endpoints: []string{"http://etcd.invalid:2379"}}, []string{"etcd.invalid"}, false},
		"wrong name":     {with(good, newProxyOn(t, "127.0.0.2", secure).url), []string{"its certificate is for another name", "127.0.0.2"}, false},
		"no authority":   {Config{Endpoints: []string{secure}}, []string{"signed by an authority unknown here", "--etcd-cafile"}, false},
		"no certificate": {with(Config{CAFile: f.CA.Cert}, secure), []string{"--etcd-certfile and --etcd-keyfile"}, false},
		"http to TLS":    {Config{Endpoints: []string{strings.Replace(secure, "https", "http", 1)}}, []string{"write https if it uses TLS"}, false},
		"https to plain": {with(good, strings.Replace(plain, "http", "https", 1)), []string{"it speaks no TLS there: write http instead of https"}, false},
		"not etcd":       {Config{Endpoints: []string{talker(t, "SSH-2.0-OpenSSH_9.2p1\r\n")}}, []string{"etcd at http://127.0.0.1:"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, tt.cfg)
			if tt.cfg.Endpoints[0] == mute.url { // the others answer, in their time
				impatient(r)
				r.timing.request = 400 * time.Millisecond
			}
			_, err := r.Snapshot(t.Context())
			if err == nil {
				t.Fatal("the call worked")
			}
			oneLine(t, err)
			if errors.Is(err, ErrNoAnswer) != tt.away {
				t.Errorf("etcd may answer later: %v, want %v; %v", !tt.away, tt.away, err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got  %q\nwant %q", err, want)
				}
			}
			// The watch says the same.
			err = r.Watch(t.Context(), 1, nil)
			oneLine(t, err)
		})
	}
}

// What cannot be provoked here without other hosts.
func TestSilence(t *testing.T) {
	r := open(t, Config{Endpoints: []string{"http://192.0.2.1:2379"}})
	for text, want := range map[string]string{
		`connection error: desc = "transport: Error while dialing: dial tcp 192.0.2.1:2379: connect: no route to host"`:       "dial tcp 192.0.2.1:2379: connect: no route to host",
		`connection error: desc = "transport: Error while dialing: dial tcp 192.0.2.1:2379: connect: network is unreachable"`: "dial tcp 192.0.2.1:2379: connect: network is unreachable",
		"etcdserver: no leader": "it has no leader: a majority of its members must be up (etcdserver: no leader)",
	} {
		err := r.explain("list the leases", status.Error(codes.Unavailable, text))
		if want = "list the leases: etcd at http://192.0.2.1:2379: " + want; err.Error() != want || !errors.Is(err, ErrNoAnswer) {
			t.Errorf("%q, may answer later: %v; want %q", err, errors.Is(err, ErrNoAnswer), want)
		}
	}
}

// talker is a server that greets and hangs up.
func talker(t *testing.T, greeting string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte(greeting))
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return "http://" + l.Addr().String()
}

func TestCallerContext(t *testing.T) {
	r := open(t, Config{Endpoints: []string{closedPort(t)}})
	mute := newProxy(t, shared.Endpoints()[0])
	mute.silence()
	silent := open(t, Config{Endpoints: []string{mute.url}})
	for _, r := range []*Registry{r, silent} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := r.Watch(ctx, 1, nil)
		if r == silent && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("watch ended with %v", err)
		}
		if _, err = r.Snapshot(ctx); err == nil {
			t.Error("the call worked")
		}
	}
}

func TestNewErrors(t *testing.T) {
	f := initPKI(t)
	empty := filepath.Join(t.TempDir(), "empty.crt")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	one := []string{"https://10.0.0.1:2379"}
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "no etcd endpoint given: set --etcd-endpoints, for example http://10.0.0.1:2379"},
		{Config{Endpoints: []string{"http://10.0.0.1:2379"}, CAFile: f.CA.Cert}, `etcd endpoint http://10.0.0.1:2379: TLS files are given, but http uses none: write https, or take the files away`},
		{Config{Endpoints: []string{"http://10.0.0.1:2379", "https://10.0.0.2:2379"}}, "etcd endpoints http://10.0.0.1:2379 and https://10.0.0.2:2379: use http for all or https for all"},
		{Config{Endpoints: []string{"http://10.0.0.1"}}, `etcd endpoint: "http://10.0.0.1" must name a host and a port, for instance http://192.0.2.1:2379`},
		{Config{Endpoints: one, CertFile: f.Client.Cert}, "an etcd certificate is given without its key: set --etcd-keyfile"},
		{Config{Endpoints: one, KeyFile: f.Client.Key}, "an etcd key file is given without a certificate: set --etcd-certfile"},
		{Config{Endpoints: one, CAFile: "/nonexistent"}, "read etcd CA file: open /nonexistent: no such file or directory"},
		{Config{Endpoints: one, CAFile: empty}, "read etcd CA file " + empty + ": it holds no certificate in PEM form"},
		{Config{Endpoints: one, CertFile: empty, KeyFile: f.Client.Key}, "read etcd client certificate " + empty + " and key " + f.Client.Key + ": tls: failed to find any PEM data in certificate input"},
		{Config{Endpoints: one, Password: "p"}, "an etcd password is given without a user name: set --etcd-username"},
		{Config{Endpoints: one, Username: "u"}, "an etcd user name is given without a password: set --etcd-password"},
	} {
		if _, err := New(tt.cfg); err == nil || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

func TestParseEndpoints(t *testing.T) {
	for _, tt := range []struct {
		in   string
		tls  bool
		want string
	}{
		{"http://10.0.0.1:2379/", false, "http://10.0.0.1:2379"},
		{"10.0.0.1:4001", false, "http://10.0.0.1:4001"},
		{"[fd00::1]:2379", true, "https://[fd00::1]:2379"},
		{"https://etcd.example.net:1", false, "https://etcd.example.net:1"},
	} {
		urls, secure, err := parseEndpoints([]string{tt.in}, tt.tls)
		if err != nil || len(urls) != 1 || urls[0] != tt.want || secure != strings.HasPrefix(tt.want, "https") {
			t.Errorf("%q: %v, secure %t, error %v; want %s", tt.in, urls, secure, err, tt.want)
		}
	}
}
