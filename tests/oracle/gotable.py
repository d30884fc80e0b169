"""A reader of the literals in Go source, as much of the language as tables of tests are written in.

    go = GoFile(path, names)                  the file; names: what its expressions may mention, "time.UTC": value or callable
    go.function("TestNext").value("runs")     what `runs := …` or `var runs = …` stands for
    go.function("TestZero").calls("Parse")    the arguments of each call, those that are strings; None for another
    go.call("every5min", argument)            what a function of one `return` gives

Strings and numbers are themselves, `[]T{…}` is a list, a struct is a dictionary by its fields' names (those of a struct
declared in place or in the file); `T{…}` of another type and `f(…)` call names[…].

It is strict: what it does not know raises Unknown and says the line.  A table that changed its shape is never read in part.
"""

import ast
import operator
import re

TOKEN = re.compile(r"""(?P<space>[ \t\r]+|//[^\n]*|/\*.*?\*/)|(?P<line>\n)|(?P<raw>`[^`]*`)|(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<char>'(?:[^'\\\n]|\\.)+')|(?P<number>0[xX][0-9a-fA-F]+|\d[\w.]*)|(?P<name>[A-Za-z_]\w*)
    |(?P<op><<|>>|&&|\|\||:=|[-+*/&|=!<>]=|\+\+|--|<-|[-+*/%&|^<>=!(){}\[\],;.:])""", re.S | re.X)
BINARY = {"+": (1, operator.add), "-": (1, operator.sub), "|": (1, operator.or_), "*": (2, operator.mul), "<<": (2, operator.lshift)}
CLOSING = {"(": ")", "[": "]", "{": "}"}


class Unknown(Exception):
    pass


def tokens(text):
    """(kind, text, line) of each; newlines are kept, they end a field of a struct."""
    at, line, found = 0, 1, []
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match:
            raise Unknown(f"line {line}: {text[at:at + 20]!r}")
        if match.lastgroup != "space":
            found.append((match.lastgroup, match[0], line))
        line += match[0].count("\n")
        at = match.end()
    return found + [("end", "", line)]


def literal(kind, text):
    return text[1:-1] if kind == "raw" else ast.literal_eval(text)


class Part:
    """Some tokens in a row: a file, or the body of a function."""

    def __init__(self, go, found):
        self.go, self.tokens, self.at = go, found, 0

    def peek(self):
        while self.tokens[self.at][0] == "line":
            self.at += 1
        return self.tokens[self.at]

    def next(self):
        token = self.peek()
        self.at += token[0] != "end"
        return token

    def take(self, text):
        """Whether the next token is this one, which is then behind us."""
        found = self.peek()[0] in ("op", "name") and self.peek()[1] == text
        self.at += found
        return found

    def expect(self, text):
        if not self.take(text):
            raise self.unknown(f"{text!r} expected")

    def unknown(self, what):
        kind, text, line = self.peek()
        return Unknown(f"{self.go.path}:{line}: {what}, at {text!r}")

    def find(self, *texts):
        """Positions behind these tokens in a row; the first is no part of a longer name."""
        n = len(texts)
        return [i + n for i in range(len(self.tokens) - n)
                if all(t[0] in ("name", "op") and t[1] == want for t, want in zip(self.tokens[i:i + n], texts))
                and (i == 0 or self.tokens[i - 1][1] != ".")]

    def only(self, positions, what):
        if len(positions) != 1:
            raise Unknown(f"{self.go.path}: {what} is there {len(positions)} times")
        self.at = positions[0]

    def block(self):
        """The part between the brace that is next and its closing one."""
        self.expect("{")
        start, depth = self.at, 1
        while depth:
            kind, text, _ = self.next()
            if kind == "end":
                raise self.unknown("no end of a block")
            depth += (text == "{") - (text == "}") if kind == "op" else 0
        return Part(self.go, self.tokens[start:self.at - 1] + [("end", "", self.tokens[self.at - 1][2])])

    # What a test asks for.

    def value(self, name):
        self.only(self.find(name, ":=") + self.find("var", name, "="), name)
        return self.expression({})

    def calls(self, name):
        found = []
        for self.at in self.find(*re.split(r"(\.)", name), "("):
            arguments, depth = [[]], 1
            while depth:
                kind, text, _ = self.next()
                if kind == "end":
                    raise self.unknown(f"no end of a call of {name}")
                depth += (text in CLOSING) - (text in CLOSING.values()) if kind == "op" else 0
                if depth == 1 and text == ",":
                    arguments.append([])
                elif depth:
                    arguments[-1].append((kind, text))
            found.append(tuple(literal(*a[0]) if len(a) == 1 and a[0][0] in ("string", "raw") else None for a in arguments))
        return found

    def returned(self, locals_):
        self.only(self.find("return"), "return")
        found = self.expression(locals_)
        if self.peek()[0] != "end":
            raise self.unknown("more behind the returned value")
        return found

    # Types: "[]" and what is within, the fields' names of a struct, or a name.

    def type(self):
        if self.take("["):
            self.expect("]")
            return ["[]", self.type()]
        self.take("*")
        if self.peek()[1] == "struct":
            self.at += 1
            return self.fields()
        name = self.dotted()
        return self.go.structs.get(name, name)

    def fields(self):
        body, names = self.block(), []
        while body.peek()[0] != "end":
            names.append(body.dotted())
            while body.take(","):
                names.append(body.dotted())
            body.type()
            # Looking for more of a name has gone over the newline already.
            if body.tokens[body.at - 1][0] != "line" and body.peek()[0] != "end" and not body.take(";"):
                raise body.unknown("a field of a struct")
        return tuple(names)

    def dotted(self):
        kind, text, _ = self.peek()
        if kind != "name":
            raise self.unknown("a name expected")
        self.at += 1
        while self.take("."):
            text += "." + self.next()[1]
        return text

    # Expressions.

    def expression(self, locals_, lowest=1):
        left = self.operand(locals_)
        while self.peek()[0] == "op" and self.peek()[1] in BINARY and BINARY[self.peek()[1]][0] >= lowest:
            level, act = BINARY[self.next()[1]]
            left = act(left, self.expression(locals_, level + 1))
        return left

    def operand(self, locals_):
        kind, text, _ = self.peek()
        if kind in ("string", "raw", "number"):
            self.at += 1
            return literal(kind, text)
        if self.take("&"):
            return self.operand(locals_)
        if text == "[":
            return self.composite(self.type(), locals_)
        name = self.dotted()
        if name in self.go.structs and self.peek()[1] == "{":
            return self.composite(self.go.structs[name], locals_)
        if name not in locals_ and name not in self.go.names:
            self.at -= 1
            raise self.unknown(f"a name that is not known: {name}")
        known = locals_[name] if name in locals_ else self.go.names[name]
        if self.peek()[1] == "(":
            items, keyed = self.items("(", None, locals_)
            return known(*items, **keyed)
        if self.peek()[1] == "{":
            items, keyed = self.items("{", None, locals_)
            return known(*items, **keyed)
        return known

    def composite(self, type_, locals_):
        """A literal of a list or a struct, from its brace on."""
        if isinstance(type_, list):
            items, keyed = self.items("{", type_[1], locals_)
            if keyed:
                raise self.unknown("keys in a list")
            return items
        if not isinstance(type_, tuple):
            raise self.unknown(f"a literal of {type_}")
        items, keyed = self.items("{", None, locals_)
        if items and (keyed or len(items) != len(type_)) or not set(keyed) <= set(type_):
            raise self.unknown(f"a struct with other fields than {', '.join(type_)}")
        return dict(zip(type_, items)) if items else keyed

    def items(self, opening, inner, locals_):
        """The elements up to the closing brace; `inner`: their type when they leave it out."""
        self.expect(opening)
        items, keyed = [], {}
        while not self.take(CLOSING[opening]):
            key = None
            if self.peek()[0] == "name" and self.tokens[self.at + 1][1] == ":":
                key = self.next()[1]
                self.expect(":")
            if inner is not None and self.peek()[1] == "{":
                value = self.composite(inner, locals_)
            else:
                value = self.expression(locals_)
            if key is None:
                items.append(value)
            else:
                keyed[key] = value
            if not self.take(",") and self.peek()[1] != CLOSING[opening]:
                raise self.unknown("a comma expected")
        return items, keyed


class GoFile(Part):
    def __init__(self, path, names):
        self.path, self.names, self.structs = path, dict(names), {}
        super().__init__(self, tokens(path.read_text()))
        for at in self.find("type"):
            if self.tokens[at][0] == "name" and self.tokens[at + 1][1] == "struct":
                self.at = at + 2
                self.structs[self.tokens[at][1]] = self.fields()

    def head(self, name):
        """The names of a function's parameters; its body is next."""
        self.only(self.find("func", name, "("), f"func {name}")
        parameters = []
        while not self.take(")"):
            parameters.append(self.dotted())
            self.type()
            self.take(",")
        if self.peek()[1] != "{":
            self.type()
        return parameters

    def function(self, name):
        self.head(name)
        return self.block()

    def call(self, name, *arguments):
        return self.function(name).returned(dict(zip(self.head(name), arguments, strict=True)))
