package zaplog

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// record returns a slog logger and what it has written, without the times.
func record(level slog.Level) (*slog.Logger, *bytes.Buffer) {
	buf := &bytes.Buffer{}
	return slog.New(slog.NewTextHandler(buf, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})), buf
}

func TestClient(t *testing.T) {
	log, out := record(slog.LevelInfo)
	l := Client(log)
	l.Error("retrying", zap.Error(errors.New("refused")))
	if out.Len() != 0 {
		t.Errorf("a client's line came through above debug: %s", out)
	}
	log, out = record(slog.LevelDebug)
	l = Client(log).With(zap.String("target", "x")).Named("client")
	l.Debug("backoff")
	l.Warn("retrying", zap.Error(errors.New("refused")), zap.Uint("attempt", 2))
	const want = `level=DEBUG msg="etcd: retrying" target=x error=refused attempt=2` + "\n"
	if out.String() != want {
		t.Errorf("got  %swant %s", out, want)
	}
}

func TestServer(t *testing.T) {
	log, out := record(slog.LevelDebug)
	l := Server(log, []string{"usual"})
	l.Info("starting")
	l.Warn("usual")
	for range 100 {
		l.Warn("slow disk", zap.Int("ms", 7))
	}
	l.Error("broken")
	const want = `level=WARN msg="etcd: slow disk" ms=7` + "\n" + `level=ERROR msg="etcd: broken"` + "\n"
	if out.String() != want {
		t.Errorf("got  %swant %s", out, want)
	}
}

type hook struct{ messages []string }

func (h *hook) OnWrite(e *zapcore.CheckedEntry, _ []zapcore.Field) {
	h.messages = append(h.messages, e.Message)
}

// TestHook checks that a hook is run whether or not the message is written.
func TestHook(t *testing.T) {
	h := &hook{}
	l := Server(slog.New(slog.DiscardHandler), []string{"usual"}, zap.WithPanicHook(h))
	l.Panic("damaged")
	l.Panic("damaged")
	l.Panic("usual")
	if want := []string{"damaged", "damaged", "usual"}; !slices.Equal(h.messages, want) {
		t.Errorf("hook got %q, want %q", h.messages, want)
	}
}
