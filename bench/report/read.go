package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode"
)

// Read reads what Write wrote. Characters that a terminal would obey rather
// than show are replaced.
func Read(file string) (*Document, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; `weft-bench run --json %s` makes it", err, file)
	}
	if err != nil {
		return nil, err
	}
	d, err := decode(b)
	if schema := (schemaError{}); errors.As(err, &schema) {
		return nil, fmt.Errorf("%s has %w: use the weft-bench that wrote it, or measure anew with `weft-bench run --json %s`", file, err, file)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is no result of weft-bench: %w", file, err)
	}
	return d, nil
}

// schemaError is for a document of another version.
type schemaError struct{ schema int }

func (e schemaError) Error() string {
	return fmt.Sprintf("schema %d, and this weft-bench reads %d", e.schema, Schema)
}

func decode(b []byte) (*Document, error) {
	var object map[string]any
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.UseNumber() // or numbers would change on the way
	if err := decoder.Decode(&object); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("something follows the object")
	}
	// First the version: in another one the rest may be of other types.
	var version struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, err
	}
	if version.Schema != Schema {
		return nil, schemaError{version.Schema}
	}
	b, err := json.Marshal(printable(object))
	if err != nil {
		return nil, err
	}
	d := new(Document)
	return d, json.Unmarshal(b, d)
}

// printable replaces what cannot be printed in all strings of a JSON value:
// escape sequences, line ends, and what turns the direction of writing.
func printable(value any) any {
	switch v := value.(type) {
	case string:
		return printableText(v)
	case []any:
		for i := range v {
			v[i] = printable(v[i])
		}
	case map[string]any:
		clean := make(map[string]any, len(v))
		for key, item := range v {
			clean[printableText(key)] = printable(item)
		}
		return clean
	}
	return value
}

func printableText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return unicode.ReplacementChar
	}, s)
}
