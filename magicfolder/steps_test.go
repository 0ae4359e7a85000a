package magicfolder

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Each step that the code names stands in a test that crashes there, TestCrashAtEachStep
// or one of its own, and each of TestCrashAtEachStep is one of the code's: whoever adds
// a step adds its crash.
func TestEachStepIsCrashedAt(t *testing.T) {
	named, tested := namedSteps(t)
	for s := range named {
		if !tested[s] {
			t.Errorf("no crash at %q is tested", s)
		}
	}
	for _, list := range steps {
		for _, s := range list {
			if !named[s] {
				t.Errorf("%q is no step of the code's", s)
			}
		}
	}
}

// namedSteps gives the steps that the code names, and all that a test calls something.
func namedSteps(t *testing.T) (named, tested map[string]bool) {
	t.Helper()
	named, tested = map[string]bool{}, map[string]bool{}
	prefixes, suffixes := map[string]bool{}, map[string]bool{}
	text := func(e ast.Expr) (string, bool) {
		l, ok := e.(*ast.BasicLit)
		if !ok || l.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(l.Value)
		return s, err == nil
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, "_test.go") {
			ast.Inspect(file, func(n ast.Node) bool {
				if e, ok := n.(ast.Expr); ok {
					if s, ok := text(e); ok {
						tested[s] = true
					}
				}
				return true
			})
			return nil
		}
		// Where several kinds of work share their steps, a function has the first part of
		// their names as its argument "steps".
		position := map[string]int{}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok {
				n := 0
				for _, field := range f.Type.Params.List {
					for _, name := range field.Names {
						if name.Name == "steps" {
							position[f.Name.Name] = n
						}
						n++
					}
				}
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if at, ok := position[f.Sel.Name]; ok && at < len(call.Args) {
				if s, ok := text(call.Args[at]); ok {
					prefixes[s] = true
				}
			}
			if f.Sel.Name != "fault" || len(call.Args) != 1 {
				return true
			}
			if s, ok := text(call.Args[0]); ok {
				named[s] = true
				return true
			}
			if sum, ok := call.Args[0].(*ast.BinaryExpr); ok {
				if s, ok := text(sum.Y); ok {
					suffixes[s] = true
					return true
				}
			}
			t.Errorf("%s: a step that is not written out: nobody can see whether it is tested", path)
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for p := range prefixes {
		for s := range suffixes {
			named[p+s] = true
		}
	}
	if len(named) < 20 {
		t.Errorf("only %d steps were found", len(named))
	}
	return named, tested
}
