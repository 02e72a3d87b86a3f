"""Drops a file on the only drop target of a display, as a file manager does (XDND version 5).

Usage: drop.py FILE    with DISPLAY set; needs python3-xlib. Exits 0 once the target has finished.
"""

import pathlib
import sys
import time

from Xlib import X, Xatom, display
from Xlib.protocol import event

PATIENCE = 60.0


def find_target(window, aware):
    """The first window below this one that takes drops."""
    for child in window.query_tree().children:
        if child.get_full_property(aware, X.AnyPropertyType):
            return child
        found = find_target(child, aware)
        if found:
            return found
    return None


class Drag:
    """One drag of one file from a hidden window to a target."""

    def __init__(self, path):
        self.display = display.Display()
        self.root = self.display.screen().root
        self.data = (path.resolve().as_uri() + "\r\n").encode()
        self.uri_list = self.atom("text/uri-list")
        self.target = find_target(self.root, self.atom("XdndAware"))
        if self.target is None:
            raise SystemExit("no window takes drops")
        self.source = self.root.create_window(0, 0, 1, 1, 0, X.CopyFromParent)
        self.source.set_selection_owner(self.atom("XdndSelection"), X.CurrentTime)
        self.accepted = False
        self.finished = False

    def atom(self, name):
        return self.display.intern_atom(name)

    def tell(self, kind, *values):
        data = [self.source.id, *values] + [0] * (4 - len(values))
        message = event.ClientMessage(window=self.target, client_type=self.atom(kind), data=(32, data))
        self.target.send_event(message)
        self.display.flush()

    def answer(self):
        """Answers what has arrived: who wants the data, who accepts, who is done."""
        while self.display.pending_events():
            arrived = self.display.next_event()
            if arrived.type == X.SelectionRequest:
                self.hand_over(arrived)
            elif arrived.type == X.ClientMessage:
                if arrived.client_type == self.atom("XdndStatus"):
                    self.accepted = bool(arrived.data[1][1] & 1)
                elif arrived.client_type == self.atom("XdndFinished"):
                    self.finished = True

    def hand_over(self, request):
        place = request.property or request.target
        if request.target == self.atom("TARGETS"):
            request.requestor.change_property(place, Xatom.ATOM, 32, [self.uri_list])
        elif request.target == self.uri_list:
            request.requestor.change_property(place, self.uri_list, 8, self.data)
        else:
            place = X.NONE
        request.requestor.send_event(
            event.SelectionNotify(
                time=request.time,
                requestor=request.requestor,
                selection=request.selection,
                target=request.target,
                property=place,
            )
        )
        self.display.flush()

    def wait(self, is_reached, step):
        """Repeats a step until something is reached."""
        end = time.monotonic() + PATIENCE
        while not is_reached():
            if time.monotonic() > end:
                raise SystemExit("the window does not answer the drag")
            step()
            time.sleep(0.05)
            self.answer()

    def run(self):
        place = self.target.get_geometry()
        x, y = place.width // 2, place.height // 2
        self.tell("XdndEnter", 5 << 24, self.uri_list)
        position = (0, (x << 16) | y, X.CurrentTime, self.atom("XdndActionCopy"))
        self.wait(lambda: self.accepted, lambda: self.tell("XdndPosition", *position))
        self.tell("XdndDrop", 0, X.CurrentTime)
        self.wait(lambda: self.finished, lambda: None)


Drag(pathlib.Path(sys.argv[1])).run()
