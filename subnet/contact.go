package subnet

import (
	"errors"
	"log/slog"
	"time"
)

// source is one way in which the registry is used.
type source int

const (
	sourceList source = iota
	sourceWrite
	sourceWatch
	sourceAnnounce
	sources
)

// contact is how the registry answers.
type contact struct {
	errs  [sources]error // what failed last, and has not worked since
	last  time.Time      // of the last answer
	since time.Time      // of the first of errs; zero if there are none
}

// note takes the outcome of one use. A refusal is an answer, too. A change
// between working and not working is logged.
func (c *contact) note(s source, err error, log *slog.Logger) {
	alive := (*AliveError)(nil)
	switch {
	case errors.Is(err, ErrChanged), errors.Is(err, ErrCompacted), errors.As(err, &alive):
		err = nil
	}
	if err == nil {
		c.last = time.Now()
	}
	c.set(s, err, log)
}

// forget drops what failed and is not tried any more.
func (c *contact) forget(s source, log *slog.Logger) { c.set(s, nil, log) }

func (c *contact) set(s source, err error, log *slog.Logger) {
	now := time.Now()
	c.errs[s] = err
	switch failing := c.err(); {
	case failing != nil && c.since.IsZero():
		c.since = now
		log.Warn("etcd cannot be used; what is known stays in force", "error", failing)
	case failing == nil && !c.since.IsZero():
		log.Info("etcd can be used again", "after", now.Sub(c.since).Round(time.Millisecond))
		c.since = time.Time{}
	}
}

// err returns why the registry cannot be used, nil if it can.
func (c *contact) err() error {
	for _, err := range c.errs {
		if err != nil {
			return err
		}
	}
	return nil
}
