# The systemd unit and the sample configuration: what an installation gets beside programs and libraries.
EXTRA_DIST += contrib/version contrib/setup.sh contrib/quickstart contrib/systemd/stepd.service.in

if HAVE_SYSTEMD_UNIT
systemdsystemunit_DATA = contrib/systemd/stepd.service
endif
CLEANFILES += contrib/systemd/stepd.service
contrib/systemd/stepd.service: contrib/systemd/stepd.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(SED) -e 's|@sbindir@|$(sbindir)|g' -e 's|@sysconfdir@|$(sysconfdir)|g' \
		$(srcdir)/contrib/systemd/stepd.service.in >$@

# The sample configuration, with the installation's own paths: always to $(pkgdatadir), and to $(sysconfdir) where
# there is none yet.  What is there is the administrator's, also at uninstallation unless it was never changed.
EXTRA_DIST += etc/stepd.yaml
stepdconfdir = $(sysconfdir)/stepd
pkgdata_DATA = etc/stepd.yaml.sample
CLEANFILES += etc/stepd.yaml.sample
etc/stepd.yaml.sample: etc/stepd.yaml Makefile
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(SED) -e 's|/usr/local/lib/stepd|$(pkglibdir)|g' $(srcdir)/etc/stepd.yaml >$@

install-data-local: etc/stepd.yaml.sample
	@$(MKDIR_P) '$(DESTDIR)$(stepdconfdir)'
	@if test -e '$(DESTDIR)$(stepdconfdir)/stepd.yaml'; then \
		echo '$(DESTDIR)$(stepdconfdir)/stepd.yaml is there and stays as it is'; \
	else \
		echo ' $(INSTALL_DATA) etc/stepd.yaml $(DESTDIR)$(stepdconfdir)/stepd.yaml'; \
		$(INSTALL_DATA) etc/stepd.yaml.sample '$(DESTDIR)$(stepdconfdir)/stepd.yaml'; \
	fi
uninstall-local:
	@if cmp -s etc/stepd.yaml.sample '$(DESTDIR)$(stepdconfdir)/stepd.yaml'; then \
		rm -f '$(DESTDIR)$(stepdconfdir)/stepd.yaml'; \
		rmdir '$(DESTDIR)$(stepdconfdir)' 2>/dev/null || :; \
	fi
