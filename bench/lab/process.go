package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a program running in a host's namespace, its output in a file.
type Process struct {
	Name string
	Log  string // path; output of a restarted process is appended

	cmd     *exec.Cmd
	pidFile string
	done    chan struct{}
	err     error // valid once done is closed
}

// Run starts a program in the host's namespace under a name that is unique
// among the host's running processes. The cluster's Close ends it.
func (h *Host) Run(name, path string, args ...string) (*Process, error) {
	return h.RunEnv(name, nil, path, args...)
}

// RunEnv is Run with variables ("KEY=value") added to the environment.
func (h *Host) RunEnv(name string, env []string, path string, args ...string) (*Process, error) {
	p := &Process{
		Name:    name,
		Log:     filepath.Join(h.Dir, name+".log"),
		cmd:     exec.Command(path, args...),
		pidFile: filepath.Join(h.Dir, name+".pid"),
		done:    make(chan struct{}),
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(os.Environ(), env...)
	// A Ctrl-C is for the lab, which then stops its processes in order. (The
	// parent-death signal is of no use: it is sent when the thread ends that
	// started the process, and that thread ends at once, see Do.)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s in %s: %w", name, h.Namespace.Name, err)
	}
	err = recordProcess(p.pidFile, p.cmd.Process.Pid)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil // it ended at once: Err and the log tell why
	}
	go func() {
		p.err = p.cmd.Wait()
		os.Remove(p.pidFile)
		close(p.done)
	}()
	if err != nil {
		p.Kill()
		return nil, fmt.Errorf("record %s: %w", name, err)
	}
	h.cluster.processes = append(h.cluster.processes, p)
	return p, nil
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the process ended: nil for exit status 0. It waits for the end.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// WhileRunning returns a context that ends with the process, too.
func (p *Process) WhileRunning(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-p.done:
			cancel(fmt.Errorf("%s ended: %s", p.Name, p.cmd.ProcessState))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// Signal sends a signal; a process that has ended is no error.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to %s: %w", sig, p.Name, err)
	}
	return nil
}

// Kill ends the process by SIGKILL and waits for its end.
func (p *Process) Kill() error {
	err := p.Signal(syscall.SIGKILL)
	<-p.done
	return err
}

// StopGrace is how long Stop waits before it kills.
const StopGrace = 10 * time.Second

// Stop ends the process by SIGTERM and waits for its end. A process that does
// not end within StopGrace is killed, which is an error.
func (p *Process) Stop() error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(StopGrace):
		return errors.Join(fmt.Errorf("%s did not end within %v of SIGTERM", p.Name, StopGrace), p.Kill())
	}
}

// LogTail returns the last lines of the process's log.
func (p *Process) LogTail(lines int) string {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// recordProcess writes "PID START" to a file, where START (clock ticks since
// boot) tells the process from a later one of the same id.
func recordProcess(file string, pid int) error {
	start, err := processStart(pid)
	if err != nil {
		return err
	}
	return os.WriteFile(file, fmt.Appendf(nil, "%d %s\n", pid, start), 0o644)
}

// killRecorded ends the process that a pid file names, if it still lives, and
// waits for its end.
func killRecorded(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	pidText, start, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	pid, err := strconv.Atoi(pidText)
	if err != nil || pid <= 1 {
		return fmt.Errorf("%s: no process id: %q", file, b)
	}
	lives := func() bool {
		now, err := processStart(pid)
		return err == nil && now == start
	}
	for deadline := time.Now().Add(StopGrace); lives(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not end", pid)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			return fmt.Errorf("kill process %d: %w", pid, err)
		}
	}
	return nil
}

// processStart returns the start time of a process that is not a zombie.
func processStart(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// proc_pid_stat(5): the second field, in parentheses, may hold anything;
	// the third is the state and the 22nd the start time.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 || string(fields[0]) == "Z" {
		return "", os.ErrProcessDone
	}
	return string(fields[19]), nil
}
