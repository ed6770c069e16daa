// Package scratch keeps, for each attachment of a container, the configuration
// that its delegate was called with by ADD, so that DEL can call it with the
// same one: also when the network's configuration or the node's subnet has
// changed since, or is gone.
//
// The folder is flannel's, /var/lib/cni/flannel by default:
//
//	<container>@<interface>   written by weft, one for each attachment
//	<container>               written by flannel's plugin: one for a container,
//	                          whatever its interfaces
//
// No container has a name with an @ (CNI allows letters, digits, '_', '.' and
// '-'). For a host that goes back to flannel's plugin, the first attachment of
// a container has a second name, <container>, as a hard link: that plugin
// reads and removes it like one of its own.
package scratch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/utils"

	"github.com/weftnet/weft/internal/atomicfile"
)

// Attachment is one interface of one container.
type Attachment struct {
	ContainerID string
	IfName      string // empty where flannel's plugin has not said it
}

// Store is a folder of scratch files.
type Store struct {
	Dir string
}

const (
	fileMode = 0o600
	dirMode  = 0o700
)

// Save keeps the configuration of an attachment, readable by root alone. When
// it returns, a crash of the machine does not lose it, unless the folder is as
// new.
func (s Store) Save(a Attachment, conf []byte) error {
	if err := a.check(); err != nil {
		return fmt.Errorf("keep the configuration: %w", err)
	}
	if err := atomicfile.Write(s.own(a), conf, fileMode, dirMode); err != nil {
		return fmt.Errorf("keep the configuration: %w", err)
	}
	// Fails where the container has another attachment that has the name, or
	// the file system has no hard links. Weft itself does without.
	_ = os.Link(s.own(a), s.flannels(a))
	return nil
}

// Load returns the configuration that weft kept of an attachment. Where there
// is none, the error matches fs.ErrNotExist.
func (s Store) Load(a Attachment) ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("read the kept configuration: %w", err)
	}
	return read(s.own(a))
}

// LoadFlannels returns what flannel's plugin kept of the attachment's
// container, whichever interface that is of: so it is for an attachment that
// weft does not know. Where there is none, or the file is the second name of
// another attachment, the error matches fs.ErrNotExist.
func (s Store) LoadFlannels(a Attachment) ([]byte, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(all, Attachment{ContainerID: a.ContainerID}) {
		return nil, fmt.Errorf("read the kept configuration: %w", fs.ErrNotExist)
	}
	return read(s.flannels(a))
}

func read(path string) ([]byte, error) {
	conf, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the kept configuration: %w", err)
	}
	return conf, nil
}

// Remove forgets an attachment; one that is not there is no error. The file of
// flannel's plugin goes with the last attachment that it may stand for.
func (s Store) Remove(a Attachment) error {
	if err := a.check(); err != nil {
		return fmt.Errorf("forget the configuration: %w", err)
	}
	names := []string{s.own(a)}
	second, err := s.secondName(a)
	if err != nil {
		return fmt.Errorf("forget the configuration: %w", err)
	}
	if second {
		names = []string{s.flannels(a), s.own(a)}
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget the configuration: %w", err)
		}
	}
	return nil
}

// secondName says whether the file of flannel's form goes with the attachment:
// if it is the same file as weft's, or, where weft has none for it, if weft has
// none for any other interface of the container either.
func (s Store) secondName(a Attachment) (bool, error) {
	second, err := os.Stat(s.flannels(a))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	own, err := os.Stat(s.own(a))
	if err == nil {
		return os.SameFile(own, second), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	all, err := s.List()
	if err != nil {
		return false, err
	}
	for _, other := range all {
		if other.ContainerID == a.ContainerID && other.IfName != "" {
			return false, nil
		}
	}
	return true, nil
}

// List returns all attachments, those of containers that only flannel's plugin
// knows without an interface. No folder is an empty one.
func (s Store) List() ([]Attachment, error) {
	entries, err := os.ReadDir(s.Dir) // sorted: a container's own name comes first
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the kept configurations: %w", err)
	}
	var all []Attachment
	for _, e := range entries {
		a := Attachment{ContainerID: e.Name()}
		id, ifName, ours := strings.Cut(e.Name(), "@")
		if ours {
			a = Attachment{id, ifName}
		}
		if !e.Type().IsRegular() || a.check() != nil || ours && ifName == "" {
			continue
		}
		all = append(all, a)
	}
	return withoutSecondNames(s, all), nil
}

// withoutSecondNames leaves out files of flannel's form that are a second name
// of weft's.
func withoutSecondNames(s Store, all []Attachment) []Attachment {
	linked := map[string]bool{}
	for _, a := range all {
		if a.IfName == "" {
			continue
		}
		own, err := os.Stat(s.own(a))
		second, secondErr := os.Stat(s.flannels(a))
		if err == nil && secondErr == nil && os.SameFile(own, second) {
			linked[a.ContainerID] = true
		}
	}
	var kept []Attachment
	for _, a := range all {
		if a.IfName != "" || !linked[a.ContainerID] {
			kept = append(kept, a)
		}
	}
	return kept
}

// check keeps names out of the folder that lead elsewhere, or that List would
// not find again.
func (a Attachment) check() error {
	if err := utils.ValidateContainerID(a.ContainerID); err != nil {
		return err
	}
	if a.IfName == "" {
		return nil
	}
	if err := utils.ValidateInterfaceName(a.IfName); err != nil {
		return err
	}
	return nil
}

func (s Store) own(a Attachment) string {
	if a.IfName == "" {
		return s.flannels(a)
	}
	return filepath.Join(s.Dir, a.ContainerID+"@"+a.IfName)
}

func (s Store) flannels(a Attachment) string { return filepath.Join(s.Dir, a.ContainerID) }
