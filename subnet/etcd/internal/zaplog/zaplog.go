// Package zaplog lets etcd's client and server, which log to zap, write to
// slog.
package zaplog

import (
	"context"
	"log/slog"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Client returns a logger for an etcd client. Everything it writes becomes a
// debug line: what matters comes back as an error of the call.
func Client(log *slog.Logger) *zap.Logger {
	return zap.New(&core{log: log, min: zapcore.InfoLevel, max: slog.LevelDebug})
}

// Server returns a logger for an etcd server. Warnings and worse are passed
// on, the same message once a minute; messages named in quiet never.
func Server(log *slog.Logger, quiet []string, opts ...zap.Option) *zap.Logger {
	drop := make(map[string]bool, len(quiet))
	for _, m := range quiet {
		drop[m] = true
	}
	c := &core{log: log, min: zapcore.WarnLevel, max: slog.LevelError, drop: drop}
	return zap.New(zapcore.NewSamplerWithOptions(c, time.Minute, 1, 0), opts...)
}

// core is a zapcore.Core that writes to slog.
type core struct {
	log  *slog.Logger
	min  zapcore.Level // below it nothing is written
	max  slog.Level    // what is worse is written at this level
	drop map[string]bool
	with []zapcore.Field
}

var _ zapcore.Core = (*core)(nil)

func (c *core) Enabled(l zapcore.Level) bool {
	return l >= c.min && c.log.Enabled(context.Background(), c.level(l))
}

func (c *core) level(l zapcore.Level) slog.Level {
	out := slog.LevelError
	switch l {
	case zapcore.DebugLevel:
		out = slog.LevelDebug
	case zapcore.InfoLevel:
		out = slog.LevelInfo
	case zapcore.WarnLevel:
		out = slog.LevelWarn
	}
	return min(out, c.max)
}

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	with := *c
	with.with = append(c.with[:len(c.with):len(c.with)], fields...)
	return &with
}

func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) || c.drop[e.Message] {
		return ce
	}
	return ce.AddCore(e, c)
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	attrs := make([]slog.Attr, 0, len(c.with)+len(fields))
	for _, list := range [][]zapcore.Field{c.with, fields} {
		for _, f := range list {
			f.AddTo(enc)
			if v, ok := enc.Fields[f.Key]; ok {
				attrs = append(attrs, slog.Any(f.Key, v))
				delete(enc.Fields, f.Key)
			}
		}
	}
	c.log.LogAttrs(context.Background(), c.level(e.Level), "etcd: "+e.Message, attrs...)
	return nil
}

func (c *core) Sync() error { return nil }
