package embedded

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"go.uber.org/zap/zapcore"
)

// fatal is what happens when etcd logs a fatal error or a panic, as it does
// for every damaged file and every failed write. By default the process ends;
// here only the goroutine does, and the error is kept: this process also
// carries packets. What the goroutine held stays locked, so a member that
// failed is stuck, which for a store is the safe way to fail.
type fatal struct {
	once sync.Once
	done chan struct{} // closed when err is set
	err  error
}

var _ zapcore.CheckWriteHook = (*fatal)(nil)

func newFatal() *fatal { return &fatal{done: make(chan struct{})} }

// OnWrite implements zapcore.CheckWriteHook.
func (f *fatal) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := errors.New(e.Message)
	for _, field := range fields {
		if cause, ok := field.Interface.(error); ok && field.Type == zapcore.ErrorType {
			err = fmt.Errorf("%s: %w", e.Message, cause)
		}
	}
	f.once.Do(func() {
		f.err = err
		close(f.done)
	})
	runtime.Goexit()
}
