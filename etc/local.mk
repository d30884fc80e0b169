# The sample configuration and its manual.  An installed configuration is the user's: it is never overwritten.
dist_man_MANS += etc/stepd.yaml.5
EXTRA_DIST += etc/stepd.yaml
CLEANFILES += etc/stepd.yaml.installed
all-local: etc/stepd.yaml.installed
etc/stepd.yaml.installed: etc/stepd.yaml Makefile
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(SED) -e 's|/usr/local/lib/stepd|$(pkglibdir)|' $(srcdir)/etc/stepd.yaml >$@
install-data-local: etc/stepd.yaml.installed
	$(MKDIR_P) '$(DESTDIR)$(sysconfdir)/stepd'
	if test -e '$(DESTDIR)$(sysconfdir)/stepd/stepd.yaml'; then \
		echo '$(DESTDIR)$(sysconfdir)/stepd/stepd.yaml exists, kept'; \
	else \
		$(INSTALL_DATA) etc/stepd.yaml.installed '$(DESTDIR)$(sysconfdir)/stepd/stepd.yaml'; \
	fi
# The manuals name the places of a build without --prefix.
install-data-hook:
	for f in '$(DESTDIR)$(man5dir)/stepd.yaml.5' '$(DESTDIR)$(man8dir)/stepd.8'; do \
		$(SED) -e 's|/usr/local/etc/|$(sysconfdir)/|g' -e 's|/usr/local/lib/stepd|$(pkglibdir)|g' "$$f" >"$$f.new" && \
		$(INSTALL_DATA) "$$f.new" "$$f" && rm -f "$$f.new" || exit 1; \
	done
# Only what is as it was installed.
uninstall-local:
	if cmp -s etc/stepd.yaml.installed '$(DESTDIR)$(sysconfdir)/stepd/stepd.yaml'; then \
		rm -f '$(DESTDIR)$(sysconfdir)/stepd/stepd.yaml'; \
	fi
