package htlcdash_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// plainSecrets are types that hold a salt by value and keep it from being
// printed by a method. Package fmt does not call methods of what stands in an
// unexported field, and would print the bytes. Keys, preimages and secrets lie
// behind pointers instead and may stand anywhere.
var plainSecrets = []string{"Salt", "Offer", "OfferResponse", "Promise", "Purchase"}

func TestSaltsDoNotStandInHiddenFields(t *testing.T) {
	fields := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == "node" || len(path) > 1 && strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for n := range ast.Preorder(f) {
			s, ok := n.(*ast.StructType)
			if !ok {
				continue
			}
			for _, field := range s.Fields.List {
				fields++
				for _, name := range field.Names {
					if !name.IsExported() && holdsSalt(f.Name.Name, field.Type) {
						t.Errorf("%s: field %s would print a salt: export or embed it", files.Position(name.Pos()), name)
					}
				}
			}
		}
		return nil
	})
	if err != nil || fields < 500 {
		t.Fatalf("%d fields were seen, %v", fields, err)
	}
}

// holdsSalt looks into what fmt prints of a field: not behind pointers.
func holdsSalt(pkg string, e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return pkg != "buyer" && slices.Contains(plainSecrets, e.Name) // its Purchase is for people
	case *ast.SelectorExpr:
		from, ok := e.X.(*ast.Ident)
		return ok && from.Name != "buyer" && slices.Contains(plainSecrets, e.Sel.Name)
	case *ast.ArrayType:
		return holdsSalt(pkg, e.Elt)
	case *ast.MapType:
		return holdsSalt(pkg, e.Key) || holdsSalt(pkg, e.Value)
	}
	return false
}
