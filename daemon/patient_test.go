package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/etcd"
	"github.com/weftnet/weft/subnet/etcd/embedded"
)

// lateStore is one whose etcd fails some times before it answers.
type lateStore struct {
	memoryStore
	failures int
	err      error
}

func (s *lateStore) Config(ctx context.Context) ([]byte, error) {
	if s.failures > 0 {
		s.failures--
		return nil, s.err
	}
	return s.memoryStore.Config(ctx)
}

// An etcd that does not answer is waited for, and that is said once; one that
// refuses is not.
func TestPatience(t *testing.T) {
	silent := fmt.Errorf("read it: %w", etcd.ErrNoAnswer)
	refused := errors.New("wrong password")
	const told = "weftd: warning: waiting up to 15s for etcd: read it: etcd does not answer\n"
	for _, tt := range []struct {
		name     string
		failures int
		err      error
		within   time.Duration // before it is interrupted
		want     error
		took     time.Duration
		stderr   string
	}{
		{"it is there", 0, nil, time.Hour, subnet.ErrNoConfig, 0, ""},
		{"it comes", 10, silent, time.Hour, subnet.ErrNoConfig, 2 * time.Second, told},
		{"it does not come", 1000, silent, time.Hour, etcd.ErrNoAnswer, 15 * time.Second, told},
		{"interrupted", 1000, silent, 1100 * time.Millisecond, etcd.ErrNoAnswer, 1100 * time.Millisecond, told},
		{"it refuses", 1000, refused, time.Hour, refused, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tt.within)
				defer cancel()
				var stderr strings.Builder
				start := time.Now()
				_, err := patient{&lateStore{failures: tt.failures, err: tt.err}, &stderr}.Config(ctx)
				if took := time.Since(start); !errors.Is(err, tt.want) || took != tt.took || stderr.String() != tt.stderr {
					t.Errorf("%v after %v, want %v after %v; stderr %q", err, took, tt.want, tt.took, &stderr)
				}
			})
		})
	}
}

// `weftd config set` may come before etcd.
func TestConfigSetBeforeEtcd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := "http://" + l.Addr().String()
	l.Close()
	var stdout strings.Builder
	stderr, w := io.Pipe()
	status := make(chan int, 1)
	go func() {
		status <- dispatch(t.Context(), []string{"config", "set", `{"Network":"10.5.0.0/16"}`, "--etcd-endpoints=" + endpoint}, &stdout, w)
		w.Close()
	}()
	told := bufio.NewReader(stderr)
	line, err := told.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "weftd: warning: waiting up to 15s for etcd: ") || !strings.Contains(line, "connection refused") {
		t.Fatalf("it says %q, %v, and ends with %d", line, err, <-status)
	}
	startEtcd(t, embedded.Config{ListenClient: []string{endpoint}, ListenPeer: []string{"http://127.0.0.1:0"}})
	rest, err := io.ReadAll(told)
	if s := <-status; s != 0 || !strings.HasPrefix(stdout.String(), "Written.") || len(rest) > 0 || err != nil {
		t.Errorf("status %d, stdout %q; stderr goes on with %q, %v", s, &stdout, rest, err)
	}
}
