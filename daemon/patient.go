package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/weftnet/weft/subnet/etcd"
)

// etcdPatience is how long `weftd config set` waits for an etcd that does not
// answer: it may have been started a moment ago, inside weftd for instance.
const etcdPatience = 15 * time.Second

// patient is a store whose first answer is waited for, which stderr is told.
type patient struct {
	configStore
	stderr io.Writer
}

func (p patient) Config(ctx context.Context) ([]byte, error) {
	end := time.Now().Add(etcdPatience)
	for told := false; ; told = true {
		raw, err := p.configStore.Config(ctx)
		if !errors.Is(err, etcd.ErrNoAnswer) || !time.Now().Before(end) {
			return raw, err
		}
		if !told {
			warn(p.stderr, fmt.Sprintf("waiting up to %v for etcd: %v", etcdPatience, err))
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(200 * time.Millisecond):
		}
	}
}
